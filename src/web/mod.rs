//! Floor 4: the page and the HTTP API. They read [`Snapshot`](daemon::Snapshot)s and send commands through a
//! [`Handle`](daemon::Handle); they never touch the journal or an executor.
//!
//! | path | what |
//! |---|---|
//! | `/` | Today: the day as a timeline, hops, alerts, dead letters, reconciliation |
//! | `/dags` | DAGs, import errors, next windows, runs |
//! | `/dags/{name}` | a DAG: steps by needs, grid of runs, calendar, actions |
//! | `/runs/{id}` | attempts on the day's axis, steps, results, actions |
//! | `/runs/{id}/steps/{step}/output` | what an attempt printed: newest lines, search, download, live |
//! | `/alerts` | alerts, their mails, the outbox |
//! | `/audit` | who did what |
//! | `/topics`, `/topics/{name}` | topics, partitions, groups, records |
//! | `/dead-letters`, `/dead-letters/{topic}/…` | what could not be processed; edit and replay |
//! | `/market`, `/market/{symbol}` | prices, averages, windows, anomalies |
//! | `/events` | changed parts of a page, as server-sent events; drawn once for all who watch it (`live`) |
//! | `/api/v1/…` | the same for programs; `/api/v1/openapi.json` lists it |
//! | `/login`, `/logout`, `/account` | who somebody is |
//! | `/language` | chooses the language of the pages |
//! | `/metrics`, `/healthz`, `/readyz` | for monitoring |
//!
//! Architecture invariant: [`serve`] serves addresses that other machines reach only while everybody has to
//! log in. What a request needs is decided in front of the handlers ([`auth`]): a path that nobody opened is
//! closed.

mod api;
mod auth;
mod cache;
mod http;
mod live;
mod locale;
mod pages;
mod routes;
mod server;
mod view;

#[cfg(test)]
mod tests;

pub use auth::Settings;
pub use server::{Options, serve, serve_with};
