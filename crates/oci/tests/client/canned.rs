//! A server that says the same to everybody, and can say it wrong.

use oci::RegistryHost;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a server that answers the first request of each connection with `answer` and hangs up.
pub(crate) async fn answers(answer: impl Into<String>) -> RegistryHost {
    answers_in_turn(vec![answer.into()]).await
}

/// Like [`answers`], with the next of `answers` for each connection, and then from the beginning.
pub(crate) async fn answers_in_turn(answers: Vec<String>) -> RegistryHost {
    let (listener, host) = listen().await;
    tokio::spawn(async move {
        for answer in answers.iter().cycle() {
            let Ok((mut connection, _)) = listener.accept().await else {
                return;
            };
            read_head(&mut connection).await;
            let _gone = connection.write_all(answer.as_bytes()).await;
            let _gone = connection.shutdown().await;
        }
    });
    host
}

/// Starts a server that answers with `answer` and then keeps the connection open, saying nothing.
pub(crate) async fn answers_and_stalls(answer: impl Into<String>) -> RegistryHost {
    let answer = answer.into();
    let (listener, host) = listen().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            read_head(&mut connection).await;
            let _gone = connection.write_all(answer.as_bytes()).await;
            open.push(connection);
        }
    });
    host
}

/// Returns a host where nobody listens.
pub(crate) async fn nobody() -> RegistryHost {
    listen().await.1
}

async fn listen() -> (TcpListener, RegistryHost) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, host)
}

async fn read_head(connection: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = connection.read_u8().await else {
            return;
        };
        head.push(byte);
    }
}
