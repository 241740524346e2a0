"""Calls the API with Taskcluster's client for Python, made from our own reference: the usual one and the async one."""

import asyncio
import datetime
import sys
import time

import celery
import kombu
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
def owners():
    """setOwners, setExemption and removeExemption work, and the audit trail has them"""
    owned = pulse().setOwners(NAMESPACE, {"owners": ["you@example.com", "group:releng"]})
    assert owned["owners"] == ["you@example.com", "group:releng"]
    assert pulse().owners(NAMESPACE) == owned
    queue = f"queue/{NAMESPACE}/ü %/*"
    granted = pulse().setExemption(NAMESPACE, queue, {"reason": "a slow reader"})
    assert granted["queue"] == queue and pulse().listExemptions(NAMESPACE)["exemptions"] == [granted]
    assert pulse().removeExemption(NAMESPACE, queue) == {}
    actions = [record["action"] for record in pulse().listNamespaceAudit(NAMESPACE, query={"limit": 3})["records"]]
    assert actions == ["end-exemption", "exempt", "set-owners"]


@check
def queues():
    """listQueues, queue, purgeQueue, deleteQueue, deleteQueues, listExchanges and deleteExchange work"""
    namespace = f"{NAMESPACE}-queues"
    log_in(namespace, pulse().claimNamespace(namespace, {})["connectionString"])
    queue, exchange = f"queue/{namespace}/greetings", f"exchange/{namespace}/greetings"
    # Lists may be some seconds old.
    for _ in range(40):
        found = []
        pulse().listQueues(namespace, paginationHandler=lambda page: found.extend(page["queues"]))
        exchanges = [one["exchange"] for one in pulse().listExchanges(namespace)["exchanges"]]
        if found and exchanges:
            break
        time.sleep(0.5)
    assert [one["queue"] for one in found] == [queue], found
    assert exchanges == [exchange], exchanges
    shown = pulse().queue(namespace, queue)
    assert shown["total"] == 0 and shown["bindings"] == [{"exchange": exchange, "routingKey": "#"}]
    assert pulse().listQueues(namespace, query={"minMessages": 1})["queues"] == []
    assert pulse().purgeQueue(namespace, queue)["result"] == "emptied"
    dry = pulse().deleteQueues(namespace, {"pattern": f"queue/{namespace}/*", "dryRun": True})
    assert dry == {"results": [{"queue": queue, "result": "would be deleted", "messages": 0}], "left": 0}
    assert pulse().deleteQueue(namespace, queue, query={"reason": "ü"})["result"] == "deleted"
    assert pulse().deleteExchange(namespace, exchange) == {}
    reasons = [record["reason"] for record in pulse().listNamespaceAudit(namespace, query={"limit": 2})["records"]]
    assert reasons == ["it was a topic exchange; on demand", "it had 0 messages; ü"], reasons
    refused(TaskclusterRestFailure, 404, "ResourceNotFound", "No such queue", pulse().deleteQueue, namespace, queue)


@check
def ends():
    """revokeCredentials, disableNamespace, enableNamespace and releaseNamespace work, and the audit trail has them"""
    ending, why = f"{NAMESPACE}-ends", {"reason": "it was leaked"}
    before = pulse().claimNamespace(ending, {})["connectionString"]
    assert pulse().revokeCredentials(ending, why) == {"namespace": ending, "state": "done"}
    after = pulse().claimNamespace(ending, {})["connectionString"]
    log_in(ending, after)
    assert after != before
    admin = pulse({**owner, "clientId": "tests/admin"})
    assert admin.disableNamespace(ending, why)["state"] == "done"
    refused(TaskclusterRestFailure, 409, "RequestConflict", "it was leaked", pulse().claimNamespace, ending, {})
    assert admin.enableNamespace(ending, why)["state"] == "pending"
    assert pulse().releaseNamespace(ending, why)["namespace"] == ending
    actions = [record["action"] for record in pulse().listNamespaceAudit(ending, query={"limit": 4})["records"]]
    assert actions == ["release", "enable", "disable", "revoke"]


@check
def accounts():
    """createAccount, newCredentials, adoptUser, moveOn and retireUser work"""
    account = f"{NAMESPACE}-person"
    administrator = pulse({**owner, "clientId": "tests/admin"})
    first = administrator.createAccount(account, {"owners": ["you@example.com"]})
    second = pulse().newCredentials(account, {})
    log_in(account, first["connectionString"])
    log_in(account, second["connectionString"])
    assert pulse().account(account)["schedule"] == "on-demand"
    refused(TaskclusterRestFailure, 409, "RequestConflict", "is an account", pulse().claimNamespace, account, {})
    text = "RabbitMQ has no such user"
    other = {"owners": ["you@example.com"]}
    refused(TaskclusterRestFailure, 409, "RequestConflict", text, administrator.adoptUser, f"{account}-else", other)
    text = "adopted user any more"
    refused(TaskclusterRestFailure, 409, "RequestConflict", text, pulse().moveOn, account, {"schedule": "rotating"})
    refused(TaskclusterRestFailure, 409, "RequestConflict", text, pulse().retireUser, account)


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


# script/test-clients gives those of NAMESPACE-plain no suffix, and others one where RabbitMQ needs it for old clients.
PLAIN = f"{NAMESPACE}-plain"


@check
def plain_pika():
    """pika logs in with the whole string, where it has no suffix"""
    pika.BlockingConnection(pika.URLParameters(pulse().claimNamespace(PLAIN, {})["connectionString"])).close()


@check
def plain_kombu():
    """kombu publishes and consumes with the whole string, where it has no suffix"""
    exchange = kombu.Exchange(f"exchange/{PLAIN}/greetings", "topic")
    queue = kombu.Queue(f"queue/{PLAIN}/kombu", exchange, "#")
    with kombu.Connection(pulse().claimNamespace(PLAIN, {})["connectionString"], connect_timeout=10) as connection:
        with connection.SimpleQueue(queue) as messages:
            kombu.Producer(connection).publish({"hello": "from kombu"}, exchange=exchange, routing_key="hello")
            message = messages.get(timeout=10)
            message.ack()
            assert message.payload == {"hello": "from kombu"}, message.payload


@check
def plain_celery():
    """celery sends and takes a task with the whole string, where it has no suffix"""
    app = celery.Celery(broker=pulse().claimNamespace(PLAIN, {})["connectionString"], broker_connection_timeout=10)
    # With a direct one celery publishes to the default exchange, where a namespace may not.
    exchange = kombu.Exchange(f"exchange/{PLAIN}/celery", "topic")
    app.conf.task_queues = [kombu.Queue(f"queue/{PLAIN}/celery", exchange, "celery")]
    app.conf.task_default_queue = f"queue/{PLAIN}/celery"
    app.send_task("greet", ["from celery"], queue=f"queue/{PLAIN}/celery", retry=False)
    with app.connection_for_read() as connection:
        with connection.SimpleQueue(app.amqp.queues[f"queue/{PLAIN}/celery"]) as messages:
            message = messages.get(timeout=10)
            message.ack()
            assert message.headers["task"] == "greet", message.headers


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
