//! The table of pages.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodFilter, MethodRouter};
use futures::FutureExt as _;

use super::administration as admin;
use super::page::Page;
use super::stages;
use super::{
    audit, destroy, ends, exchange, exchanges, exempt, inspector, many, namespace, namespaces, own, queue, queues,
    sign_in, status,
};
use crate::web::api::app::App;

/// One of the table.
macro_rules! pages {
    ($($open:ident $verb:ident $path:literal => $handler:path;)*) => {
        &[$(Page {
            path: $path,
            takes_form: pages!(@$verb),
            open: pages!(@$open),
            handler: |visit| $handler(visit).boxed(),
        },)*]
    };
    (@get) => { false };
    (@post) => { true };
    (@anybody) => { true };
    (@person) => { false };
}

const PAGES: &[Page] = pages! {
    anybody get "/" => sign_in::home;
    anybody get "/status" => status::status;
    anybody get "/sign-in" => sign_in::sign_in;
    anybody post "/sign-in/development" => sign_in::development;
    anybody get "/sign-in/begin" => sign_in::begin_oidc;
    anybody get "/sign-in/callback" => sign_in::callback;
    anybody get "/sign-in/taskcluster" => sign_in::begin_taskcluster;
    anybody get "/sign-in/taskcluster/callback" => sign_in::taskcluster_callback;
    anybody post "/sign-out" => sign_in::sign_out;
    person get "/me" => sign_in::me;
    person get "/namespaces" => namespaces::namespaces;
    person get "/namespaces/{name}" => namespace::namespace;
    person get "/namespaces/{name}/owners" => own::owners;
    person post "/namespaces/{name}/owners" => own::set_owners;
    person get "/namespaces/{name}/release" => own::ask_release;
    person post "/namespaces/{name}/release" => own::release;
    person get "/namespaces/{name}/revoke" => own::ask_revoke;
    person post "/namespaces/{name}/revoke" => own::revoke;
    person get "/namespaces/{name}/credentials" => own::ask_credentials;
    person post "/namespaces/{name}/credentials" => own::credentials;
    person get "/namespaces/{name}/extend" => ends::ask_extend;
    person post "/namespaces/{name}/extend" => ends::extend;
    person get "/namespaces/{name}/disable" => ends::ask_disable;
    person post "/namespaces/{name}/disable" => ends::disable;
    person get "/namespaces/{name}/enable" => ends::ask_enable;
    person post "/namespaces/{name}/enable" => ends::enable;
    person get "/namespaces/{name}/retire" => ends::ask_retire;
    person post "/namespaces/{name}/retire" => ends::retire;
    person get "/queues" => queues::queues;
    person post "/queues/ask" => many::ask;
    person post "/queues/do" => many::act;
    person get "/queue" => queue::queue;
    person get "/queue/purge" => destroy::ask_purge;
    person post "/queue/purge" => destroy::purge;
    person get "/queue/delete" => destroy::ask_delete;
    person post "/queue/delete" => destroy::delete;
    person post "/queue/exempt" => exempt::exempt;
    person post "/queue/end-exemption" => exempt::end;
    person post "/queue/ask-exemption" => exempt::ask;
    person get "/exchanges" => exchanges::exchanges;
    person get "/exchange" => exchange::exchange;
    person get "/exchange/delete" => destroy::ask_delete_exchange;
    person post "/exchange/delete" => destroy::delete_exchange;
    person get "/inspector" => inspector::choose;
    person post "/inspector" => inspector::begin;
    person get "/inspector/watch" => inspector::watch;
    person post "/inspector/stop" => inspector::stop;
    person get "/administration" => admin::glance;
    person get "/administration/people" => admin::people::people;
    person post "/administration/people/sign-out" => admin::people::sign_out;
    person get "/administration/people/disable" => admin::people::ask_disable;
    person post "/administration/people/disable" => admin::people::disable;
    person post "/administration/people/enable" => admin::people::enable;
    person get "/administration/exemptions" => admin::exemptions::exemptions;
    person get "/administration/requests/grant" => exempt::ask_grant;
    person post "/administration/requests/grant" => exempt::grant;
    person get "/administration/requests/refuse" => exempt::ask_refuse;
    person post "/administration/requests/refuse" => exempt::refuse;
    person get "/administration/things" => admin::things::things;
    person get "/administration/unknown" => admin::unknown::ask;
    person post "/administration/unknown" => admin::unknown::end;
    person get "/administration/account" => admin::things::ask_account;
    person post "/administration/account" => admin::things::make_account;
    person get "/administration/adopt" => admin::things::ask_adopt;
    person post "/administration/adopt" => admin::things::adopt;
    person get "/administration/tasks" => admin::tasks::tasks;
    person get "/administration/tasks/plan" => admin::tasks::plan;
    person get "/administration/tasks/run" => admin::tasks::ask_run;
    person post "/administration/tasks/run" => admin::tasks::run;
    person get "/administration/notices" => admin::notices::notices;
    person get "/audit" => audit::audit;
};

/// The pages, by their paths below `/console`.
pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new();
    for page in PAGES {
        let filter = if page.takes_form { MethodFilter::POST } else { MethodFilter::GET };
        let handler = move |State(app), request| stages::handle(app, page, request);
        router = router.route(page.path, MethodRouter::new().on(filter, handler));
    }
    router
}
