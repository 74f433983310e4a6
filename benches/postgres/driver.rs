//! The driver used directly, to compare with the store.

use std::sync::Arc;

use tokio_postgres::{AsyncMessage, Client, NoTls};
use tower_events::Channel;

use super::{CONNECTIONS, server::Server};

/// Writes the same rows as the store: a counter row and an entry, in one prepared statement.
#[derive(Clone)]
pub struct Driver {
    clients: Arc<Vec<(Client, tokio_postgres::Statement)>>,
}

impl Driver {
    pub async fn new(server: &Server, admin: &Client) -> Self {
        let tables = "drop table if exists driver_entry, driver_channel;
            create table driver_channel (name text primary key, seq bigint not null, tag integer not null) with (fillfactor = 50);
            create table driver_entry (channel text not null, seq bigint not null, tag integer not null, prev_tag integer not null,
                time bigint not null, data bytea not null, primary key (channel, seq));
            insert into driver_channel select 'own ' || n, 0, 0 from generate_series(0, 63) n;
            insert into driver_channel values ('hot', 0, 0)";
        admin.batch_execute(tables).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
            tokio::spawn(connection);
            let append =
                "with c as (update driver_channel set seq = seq + 1, tag = $2 where name = $1 returning seq, tag)
                insert into driver_entry select $1, c.seq, $2, c.tag, $3, $4 from c returning seq";
            let statement = client.prepare(append).await.unwrap();
            clients.push((client, statement));
        }
        Self { clients: Arc::new(clients) }
    }

    /// Appends one event. Several publishers share a connection, which pipelines their statements.
    pub async fn append(&self, publisher: usize, channel: &Channel) {
        let (client, statement) = &self.clients[publisher % CONNECTIONS];
        let data = vec![b'x'; 200];
        client.query_one(statement, &[&channel.as_str(), &7, &0_i64, &data]).await.unwrap();
    }
}

/// A connection that receives notifications.
pub struct Listener(tokio::sync::mpsc::UnboundedReceiver<i64>, Client);

impl Listener {
    pub async fn start(server: &Server, name: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
        let (said, hears) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    _ = said.send(notification.payload().parse().unwrap());
                }
            }
        });
        client.batch_execute(&format!("listen {name}")).await.unwrap();
        Self(hears, client)
    }

    pub async fn next(&mut self) -> i64 {
        self.0.recv().await.unwrap()
    }
}
