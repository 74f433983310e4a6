//! nginx with the nchan module, where it is installed. Many events in one answer of a long poll, as it recommends.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::process;

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(crate) fn is_installed() -> bool {
    Path::new(MODULE).exists() && Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok()
}

/// Runs nginx until this process's input ends; its worker's time counts.
pub(crate) fn serve(listener: TcpListener) {
    // nginx binds it itself.
    let addr = listener.local_addr().expect("an address");
    drop(listener);
    let dir = std::env::temp_dir().join(format!("compare-nchan-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let mut nginx = Command::new("nginx")
        .args(["-c", &configure(&dir, &addr.to_string()), "-g", "daemon off;"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("nginx");
    let worker = loop {
        thread::sleep(Duration::from_millis(20));
        if let Some(status) = nginx.try_wait().expect("its status") {
            fs::remove_dir_all(&dir).expect("removed");
            panic!("nginx ended with {status}");
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", nginx.id())).unwrap_or_default();
        if let Some(worker) = children.split_whitespace().next() {
            break worker.to_owned();
        }
    };
    process::announce(addr, &format!("{},{worker}", nginx.id()));
    _ = std::io::stdin().read_to_end(&mut Vec::new());
    _ = Command::new("kill").args(["-TERM", &nginx.id().to_string()]).status();
    _ = nginx.wait();
    _ = fs::remove_dir_all(&dir);
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
         events {{ worker_connections 18000; }}
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
