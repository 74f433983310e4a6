//! nginx with the nchan module, where it is installed.

use std::{fs, net::TcpListener, path::Path, process::Command, thread, time::Duration};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(crate) fn is_installed() -> bool {
    Path::new(MODULE).exists()
}

/// Runs nginx in the foreground of this process's child; its worker's time counts.
pub(crate) fn serve() {
    let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let dir = std::env::temp_dir().join(format!("compare-nchan-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let dir = dir.display();
    let config = format!(
        "load_module {MODULE};\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid {dir}/pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 18000; }}\nhttp {{ access_log off; keepalive_requests 1000000000; tcp_nodelay on;\n\
         client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen {addr};\n\
         location = /events {{ nchan_subscriber; nchan_channel_id $arg_channel; nchan_subscriber_first_message newest; }}\n\
         location = /publish {{ nchan_publisher; nchan_channel_id $arg_channel; nchan_message_buffer_length 2000; }} }} }}\n"
    );
    let path = format!("{dir}/nginx.conf");
    fs::write(&path, config).expect("a file");
    let mut nginx = Command::new("nginx").args(["-c", &path, "-g", "daemon off;"]).spawn().expect("nginx");
    let worker = loop {
        thread::sleep(Duration::from_millis(50));
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", nginx.id())).unwrap_or_default();
        if let Some(worker) = children.split_whitespace().next() {
            break worker.to_owned();
        }
    };
    println!("{addr} {},{worker}", nginx.id());
    _ = nginx.wait();
}
