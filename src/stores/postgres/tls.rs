//! The encryption of connections: none, or with the server's certificate verified. Nothing in between.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, Socket, tls::TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::Source;

/// Polls the messages that the server sends unasked; `None` is the end of the connection.
pub(super) type Messages = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send>;

#[derive(Clone)]
pub(super) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

/// The certificate of this process, and its key, as PEM.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) chain: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Tls {
    /// Trusts the certificates in `pem`, or those of the system if there are none.
    pub(super) fn verified(pem: Option<&[u8]>, identity: Option<&Identity>) -> Result<Self, Source> {
        let mut roots = RootCertStore::empty();
        match pem {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    roots.add(certificate?)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err("no trusted certificate was found".into());
        }
        // Named explicitly, because another crate in the application may have installed a default, or two.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(&identity.chain).collect::<Result<Vec<_>, _>>()?;
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(&identity.key)?)?
            }
        };
        Ok(Self::On(MakeRustlsConnect::new(config)))
    }

    pub(super) async fn connect(&self, config: &Config) -> Result<(Client, Messages), Error> {
        match self {
            Self::Off => config.connect(NoTls).await.map(|(client, connection)| (client, messages(connection))),
            Self::On(tls) => {
                config.connect(tls.clone()).await.map(|(client, connection)| (client, messages(connection)))
            }
        }
    }
}

fn messages<S: TlsStream + Unpin + Send + 'static>(mut connection: Connection<Socket, S>) -> Messages {
    Box::new(move |cx| connection.poll_message(cx))
}
