"""Calls the API with Taskcluster's client for Python, made from our own reference: the usual one and the async one."""

import asyncio
import datetime
import sys

import pika
import requests
import taskcluster
import taskcluster.aio
from taskcluster.aio.asyncclient import AsyncBaseClient
from taskcluster.client import createApiClient
from taskcluster.exceptions import TaskclusterAuthFailure, TaskclusterRestFailure

options = taskcluster.optionsFromEnvironment()
root_url, owner = options["rootUrl"], options["credentials"]
reference = requests.get(f"{root_url}/references/pulse/v1/api.json", timeout=30).json()
Pulse = createApiClient("Pulse", {"reference": reference})


class AsyncPulse(AsyncBaseClient):
    """What the client's generator would write for our reference. The async createApiClient does not work: it derives
    from the client that is not async."""

    classOptions = {}
    serviceName, apiVersion, funcinfo = Pulse.serviceName, Pulse.apiVersion, Pulse.funcinfo

    async def listNamespaces(self, *args, **kwargs):
        return await self._makeApiCall(self.funcinfo["listNamespaces"], *args, **kwargs)

    async def namespace(self, *args, **kwargs):
        return await self._makeApiCall(self.funcinfo["namespace"], *args, **kwargs)

    async def claimNamespace(self, *args, **kwargs):
        return await self._makeApiCall(self.funcinfo["claimNamespace"], *args, **kwargs)


NAMESPACE = "taskcluster-python"
VERSION = "taskcluster 113.2.0 (Python)"


def check(run):
    """Runs one check, named by its docstring, and says how it went in one line."""
    name = f"{VERSION}: {run.__doc__}"
    try:
        if asyncio.iscoroutinefunction(run):
            asyncio.run(asyncio.wait_for(run(), 60))
        else:
            run()
        print(f"ok {name}", flush=True)
    except Exception as error:
        print(f"FAILED {name}: {type(error).__name__}: {' / '.join(str(error).split())}", flush=True)
        check.failed = True


check.failed = False


def log_in(namespace, connection_string):
    """Logs in, and uses what the namespace is allowed to use. What follows a ? is for the AMQP client of Node.js."""
    connection = pika.BlockingConnection(pika.URLParameters(connection_string.partition("?")[0]))
    try:
        channel = connection.channel()
        channel.exchange_declare(f"exchange/{namespace}/greetings", "topic", durable=True)
        channel.queue_declare(f"queue/{namespace}/greetings", durable=True)
        channel.queue_bind(f"queue/{namespace}/greetings", f"exchange/{namespace}/greetings", "#")
    finally:
        connection.close()


# Each gets a copy of the credentials, because the client turns what it is given into bytes, in place.
def pulse(credentials=owner, **more):
    return Pulse({"rootUrl": root_url, "credentials": dict(credentials), **more})


def async_pulse(session, credentials=owner, **more):
    return AsyncPulse({"rootUrl": root_url, "credentials": dict(credentials), **more}, session=session)


def temporary(scopes, name=None):
    start = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    expiry = start + datetime.timedelta(hours=1)
    return taskcluster.createTemporaryCredentials(
        owner["clientId"], owner["accessToken"], start, expiry, scopes, name=name
    )


def expect(kind, status, code, text, error):
    """Passes when a call was refused like this."""
    assert type(error) is kind, repr(error)
    assert error.status_code == status, error.status_code
    assert error.body["code"] == code, error.body["code"]
    assert text in str(error), str(error)


def refused(kind, status, code, text, call, *arguments):
    try:
        call(*arguments)
    except (TaskclusterAuthFailure, TaskclusterRestFailure) as error:
        return expect(kind, status, code, text, error)
    raise AssertionError("it was not refused")


@check
def ping():
    """ping"""
    assert Pulse({"rootUrl": root_url}).ping()["alive"] is True


@check
def claim():
    """claimNamespace returns a connection string that logs in"""
    expires = taskcluster.fromNow("1 day")
    payload = {"expires": taskcluster.stringDate(expires), "contact": "a@example.com"}
    claimed = pulse().claimNamespace(NAMESPACE, payload)
    assert claimed["namespace"] == NAMESPACE
    assert claimed["expires"][:19] == expires.isoformat()[:19]
    log_in(NAMESPACE, claimed["connectionString"])


@check
def see():
    """namespace returns what anybody may know, and no secret"""
    assert set(pulse().namespace(NAMESPACE)) == {"namespace", "created", "expires", "contact"}


@check
def pages():
    """listNamespaces pages through all, by hand and with a pagination handler"""
    for more in "abc":
        pulse().claimNamespace(f"{NAMESPACE}-{more}", {})
    everything = pulse().listNamespaces()["namespaces"]
    assert len(everything) >= 4
    page = pulse().listNamespaces(query={"limit": 2})
    following = pulse().listNamespaces(query={"limit": 2, "continuationToken": page["continuationToken"]})
    assert page["namespaces"] + following["namespaces"] == everything[:4]
    found = []
    pulse().listNamespaces(paginationHandler=lambda page: found.extend(page["namespaces"]), paginationLimit=2)
    assert found == everything


@check
def bad_name():
    """400 for a name that can't be, with its text"""
    text = "Invalid URL patterns:\nURL parameter 'namespace' given  as 'taskcluster-a/b' is not valid: "
    refused(TaskclusterRestFailure, 400, "InvalidRequestArguments", text, pulse().claimNamespace, "taskcluster-a/b", {})


@check
def bad_payload():
    """400 for a payload that its schema rejects, with its text"""
    text = '* data/expires must match format "date-time"'
    call = pulse().claimNamespace
    refused(TaskclusterRestFailure, 400, "InputValidationError", text, call, NAMESPACE, {"expires": "soon"})


@check
def bad_key():
    """401 for a wrong access token, with its text"""
    call = pulse({**owner, "accessToken": "x" * 44}).claimNamespace
    refused(TaskclusterAuthFailure, 401, "AuthenticationFailed", "Unauthorized: Bad mac", call, NAMESPACE, {})


@check
def not_allowed():
    """403 for a namespace of somebody else, with its text"""
    text = f"Client ID {owner['clientId']} does not have sufficient scopes and is missing the following scopes:"
    refused(TaskclusterRestFailure, 403, "InsufficientScopes", text, pulse().claimNamespace, "elsewhere", {})


@check
def not_there():
    """404 for a namespace that nobody claimed, with its text"""
    call = pulse().namespace
    refused(TaskclusterRestFailure, 404, "ResourceNotFound", "No such namespace", call, "taskcluster-nothing")


def check_temporary(name):
    limited = pulse(temporary([f"pulse:namespace:{NAMESPACE}"], name))
    log_in(NAMESPACE, limited.claimNamespace(NAMESPACE, {})["connectionString"])
    text = "does not have sufficient scopes"
    refused(TaskclusterRestFailure, 403, "InsufficientScopes", text, limited.claimNamespace, f"{NAMESPACE}-a", {})


@check
def unnamed():
    """unnamed temporary credentials claim what their scopes allow"""
    check_temporary(None)


@check
def named():
    """named temporary credentials claim what their scopes allow"""
    check_temporary(f"{owner['clientId']}/temporary")


@check
def authorized():
    """authorizedScopes limit a client to them"""
    limited = pulse(authorizedScopes=[f"pulse:namespace:{NAMESPACE}"])
    log_in(NAMESPACE, limited.claimNamespace(NAMESPACE, {})["connectionString"])
    text = "does not have sufficient scopes"
    refused(TaskclusterRestFailure, 403, "InsufficientScopes", text, limited.claimNamespace, f"{NAMESPACE}-a", {})


@check
def signed_url():
    """buildSignedUrl makes a URL that can be fetched"""
    response = requests.get(pulse().buildSignedUrl("namespace", NAMESPACE), timeout=30)
    assert response.status_code == 200, response.text
    assert response.json()["namespace"] == NAMESPACE


@check
async def asynchronous():
    """the async client claims, looks, lists, and is refused"""
    async with taskcluster.aio.createSession() as session:
        claimed = await async_pulse(session).claimNamespace(NAMESPACE, {})
        log_in(NAMESPACE, claimed["connectionString"])
        assert (await async_pulse(session).namespace(NAMESPACE))["namespace"] == NAMESPACE
        assert len((await async_pulse(session).listNamespaces(query={"limit": 2}))["namespaces"]) == 2
        limited = async_pulse(session, temporary([f"pulse:namespace:{NAMESPACE}"]))
        await limited.claimNamespace(NAMESPACE, {})
        try:
            await limited.claimNamespace(f"{NAMESPACE}-a", {})
        except TaskclusterRestFailure as error:
            expect(TaskclusterRestFailure, 403, "InsufficientScopes", "does not have sufficient scopes", error)
        else:
            raise AssertionError("it was not refused")


sys.exit(1 if check.failed else 0)
