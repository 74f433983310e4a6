//! Authentication by signing the server's challenge.

use tower_events::{
    NatsStore,
    store::{OpenError, OpenErrorKind},
};

use crate::server::{Server, servers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_authenticates() {
    const SEED: &str = "SUAJKA266PXUPFX3AY5WFFRMZMLYR4K7KECOEDEKEGP2B4SSFESGRO4UB4";
    const OTHER: &str = "SUAK45JBRBNRBNR6ZFMBWCNCD6WUBMNOJ2H2IKV34WG4IYB7KSSVGT65OM";
    let known = "authorization { users: [{ nkey: UCOXNXTHPI34AHXUNNZOQUZEXRMBNB5MCUGNPCVYF7NOE73KCYKDFGLB }] }";
    for binary in servers() {
        let server = Server::with_config(&binary, Some(known.to_owned()));
        let options = NatsStore::options();
        options.clone().nkey(SEED).connect(&server.url()).await.expect("a store");
        refused(options.clone().nkey(OTHER).connect(&server.url()).await, OpenErrorKind::Denied);
        refused(options.nkey("no seed").connect(&server.url()).await, OpenErrorKind::Denied);
        refused(NatsStore::connect(&server.url()).await, OpenErrorKind::Denied);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_authenticates() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats/operator");
    for binary in servers() {
        let server = Server::with_config(&binary, Some(include_str!("operator/server.conf").to_owned()));
        let options = NatsStore::options();
        options.clone().credentials(folder.join("user.creds")).connect(&server.url()).await.expect("a store");
        refused(NatsStore::connect(&server.url()).await, OpenErrorKind::Denied);
        let missing = folder.join("nobody.creds");
        let error = refused(options.credentials(&missing).connect(&server.url()).await, OpenErrorKind::Settings);
        let why = std::error::Error::source(&error).expect("a source").to_string();
        assert!(why.contains("nobody.creds"), "{why}");
    }
}

#[track_caller]
fn refused(connected: Result<NatsStore, OpenError>, kind: OpenErrorKind) -> OpenError {
    let error = connected.expect_err("others are refused");
    assert_eq!(error.kind(), &kind, "{error:?}");
    error
}
