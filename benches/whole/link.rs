//! A slow line: a network namespace behind a token bucket. The kernel does it, so that the
//! service meets what it meets in the field: a socket that takes a part of a list and no more.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Exists as long as the value does. Needs root and iproute2.
pub struct Link {
    namespace: String,
    outside: String,
    far_end: Ipv4Addr,
}

impl Link {
    /// A line that carries `rate` towards its far end, in the words of `tc`, such as `1mbit`.
    /// `None` where the system does not allow it.
    pub fn new(rate: &str) -> Option<Link> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (pid, nth) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let own = format!("l{pid}n{nth}");
        // Out of the addresses that are set aside for benchmarks.
        let [high, low] = (((pid + nth) % (1 << 14)) as u16 * 4).to_be_bytes();
        let near_end = Ipv4Addr::new(198, 18, high, low + 1);
        let link = Link {
            outside: format!("{own}o"),
            far_end: Ipv4Addr::new(198, 18, high, low + 2),
            namespace: own,
        };
        let (name, outside, far) = (&link.namespace, &link.outside, link.far_end);
        let inside = format!("{name}i");
        let steps = [
            format!("ip netns add {name}"),
            format!("ip link add {outside} type veth peer name {inside} netns {name}"),
            format!("ip address add {near_end}/30 dev {outside}"),
            // Each packet by itself, so that its head counts.
            format!("ip link set {outside} gso_max_segs 1 up"),
            // What devices have by default; this machine may have another.
            format!("ip route replace {far}/32 dev {outside} congctl cubic"),
            format!("ip -n {name} address add {far}/30 dev {inside}"),
            format!("ip -n {name} link set {inside} up"),
            format!("tc qdisc add dev {outside} root tbf rate {rate} burst 4kb latency 200ms"),
        ];
        steps.iter().all(|step| run(step)).then_some(link)
    }

    /// The address at the far end.
    pub fn far_end(&self) -> Ipv4Addr {
        self.far_end
    }

    /// Bytes of IP that have passed since it is there, both ways.
    pub fn bytes(&self) -> u64 {
        let count = |what: &str| -> u64 {
            let file = format!("/sys/class/net/{}/statistics/{what}", self.outside);
            let text = std::fs::read_to_string(file).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        let ethernet = 14 * (count("tx_packets") + count("rx_packets"));
        count("tx_bytes") + count("rx_bytes") - ethernet
    }

    /// Listens at the far end.
    pub fn listen(&self) -> TcpListener {
        let (namespace, address) = (self.namespace.clone(), self.far_end);
        // A socket stays in the namespace in which its thread was when it was made.
        let thread = std::thread::spawn(move || {
            let file = File::open(format!("/var/run/netns/{namespace}")).expect("namespace");
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&file),
                Some(LinkNameSpaceType::Network),
            )
            .expect("into the namespace");
            TcpListener::bind((address, 0)).expect("listen")
        });
        thread.join().expect("the thread")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        run(&format!("ip link delete {}", self.outside));
        run(&format!("ip netns delete {}", self.namespace));
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .output();
    output.is_ok_and(|output| output.status.success())
}
