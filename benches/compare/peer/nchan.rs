//! nginx with the nchan module, if installed. A long poll returns many events in one answer, as nchan recommends.

use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::Path,
    process::{Command, Stdio},
};

use rustix::io::FdFlags;

use crate::parent;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(crate) fn is_installed() -> bool {
    Path::new(MODULE).exists() && Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok()
}

/// Runs nginx until this process's standard input ends. The time of its worker counts.
pub(crate) fn serve(listener: TcpListener) {
    let addr = listener.local_addr().expect("an address");
    let dir = std::env::temp_dir().join(format!("compare-nchan-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    listener.set_nonblocking(true).expect("as nginx wants it");
    rustix::io::fcntl_setfd(&listener, FdFlags::empty()).expect("stays open in nginx");
    let mut nginx = Command::new("nginx")
        .args([
            "-c",
            &configure(&dir, &addr.to_string()),
            "-g",
            "daemon off;",
            "-e",
            &format!("{}/error.log", dir.display()),
        ])
        .env("NGINX", format!("{};", listener.as_raw_fd())) // the socket that it inherits
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("nginx");
    drop(listener); // so that connections are refused if nginx exits
    if let Err(error) = wait_for_an_answer(addr) {
        let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
        _ = nginx.kill();
        _ = fs::remove_dir_all(&dir);
        panic!("nginx does not answer: {error}\n{log}");
    }
    let workers = fs::read_to_string(format!("/proc/{0}/task/{0}/children", nginx.id())).expect("its workers");
    parent::announce(addr, &format!("{},{}", nginx.id(), workers.trim()));
    _ = std::io::stdin().read_to_end(&mut Vec::new());
    _ = Command::new("kill").args(["-TERM", &nginx.id().to_string()]).status();
    _ = nginx.wait();
    _ = fs::remove_dir_all(&dir);
}

/// Waits until a worker is running, because only a worker answers.
fn wait_for_an_answer(addr: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_exact(&mut [0])
}

fn configure(dir: &Path, addr: &str) -> String {
    let path = dir.join("nginx.conf");
    let dir = dir.display();
    let config = format!(
        "load_module {MODULE};
         user root;
         worker_processes 1;
         worker_rlimit_nofile 20000;
         pid {dir}/pid;
         error_log {dir}/error.log;
         events {{ worker_connections 18000; multi_accept on; }}
         http {{
           access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
           client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
           scgi_temp_path {dir}/s; nchan_shared_memory_size 512M;
           server {{
             listen {addr} backlog=4096;
             location = /events {{
               nchan_subscriber; nchan_channel_id $arg_channel; nchan_subscriber_first_message newest;
               nchan_longpoll_multipart_response raw; nchan_subscriber_http_raw_stream_separator \"\\n\";
             }}
             location = /publish {{ nchan_publisher; nchan_channel_id $arg_channel; nchan_message_buffer_length 2000; }}
           }}
         }}\n"
    );
    fs::write(&path, config).expect("a file");
    path.display().to_string()
}
