//! What the kernel tells, as texts.

use std::fs;
use std::path::{Path, PathBuf};

use hippodrome_engine::platform;

/// The files that checks read, and little else; empty where the kernel has none.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Cores that this process may use.
    pub(super) cores: usize,
    /// Cores that are online.
    pub(super) online: usize,
    /// The strictest CPU quota of the control groups that this process is in, cores.
    pub(super) quota_cores: Option<f64>,
    /// Each core's frequency governor, where there are any.
    pub(super) governors: Vec<String>,
    /// `/proc/sys/kernel/osrelease`
    pub(super) kernel: String,
    /// `/proc/sys/kernel/io_uring_disabled`
    pub(super) io_uring_disabled: String,
    /// `/proc/self/limits`
    pub(super) limits: String,
    /// `/proc/meminfo`
    pub(super) meminfo: String,
    /// `/proc/loadavg`
    pub(super) loadavg: String,
    /// `current_clocksource`
    pub(super) clock: String,
    /// `available_clocksource`
    pub(super) clocks: String,
    /// `/sys/kernel/mm/transparent_hugepage/enabled`
    pub(super) huge_pages: String,
}

impl Machine {
    /// This machine.
    pub(super) fn here() -> Self {
        let online = read("/sys/devices/system/cpu/online");
        let clock = |name: &str| read(format!("/sys/devices/system/clocksource/clocksource0/{name}"));
        Self {
            cores: platform::cores().len(),
            online: cores_in(&online).len(),
            quota_cores: quota_cores(&read("/proc/self/cgroup"), |path| fs::read_to_string(path).ok()),
            governors: cores_in(&online).into_iter().filter_map(governor_of).collect(),
            kernel: read("/proc/sys/kernel/osrelease"),
            io_uring_disabled: read("/proc/sys/kernel/io_uring_disabled"),
            limits: read("/proc/self/limits"),
            meminfo: read("/proc/meminfo"),
            loadavg: read("/proc/loadavg"),
            clock: clock("current_clocksource"),
            clocks: clock("available_clocksource"),
            huge_pages: read("/sys/kernel/mm/transparent_hugepage/enabled"),
        }
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

fn governor_of(core: usize) -> Option<String> {
    let governor = read(format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"));
    Some(governor).filter(|governor| !governor.is_empty())
}

/// The cores of a list such as `0-3,8`; none that can not be read.
pub(super) fn cores_in(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse::<usize>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The strictest quota of the groups of `/proc/self/cgroup` and of all above them, cores; of version 2 and of version 1
/// of control groups.
fn quota_cores(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<f64> {
    let mut strictest: Option<f64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|controller| controller == "cpu") {
            continue;
        }
        let root = PathBuf::from("/sys/fs/cgroup").join(controllers);
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            let file = |name: &str| read(&root.join(group).join(name));
            let quota = if is_v2 {
                file("cpu.max").and_then(|text| ratio(&text))
            } else {
                file("cpu.cfs_quota_us").zip(file("cpu.cfs_period_us")).and_then(|(q, p)| ratio(&format!("{q} {p}")))
            };
            strictest = [strictest, quota].into_iter().flatten().reduce(f64::min);
        }
    }
    strictest
}

/// `QUOTA PERIOD`, of which the first is `max` or below 0 where there is no quota.
fn ratio(text: &str) -> Option<f64> {
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(cores_in("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(cores_in("0"), [0]);
        assert_eq!(cores_in(""), [0; 0]);
        assert_eq!(cores_in("a-b,2"), [2]);
    }

    #[test]
    fn quotas_are_those_of_the_strictest_group() {
        let files = |path: &Path| {
            let text = match path.to_str()? {
                "/sys/fs/cgroup/docker/abc/cpu.max" => "max 100000\n",
                "/sys/fs/cgroup/docker/cpu.max" => "150000 100000\n",
                "/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us" => "50000\n",
                "/sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us" => "100000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us" => "-1\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us" => "100000\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(quota_cores("0::/docker/abc\n", files), Some(1.5));
        assert_eq!(quota_cores("9:memory:/pod\n4:cpu,cpuacct:/pod\n0::/\n", files), Some(0.5));
        assert_eq!(quota_cores("4:cpu,cpuacct:/\n3:cpuset:/pod\n", files), None);
        assert_eq!(quota_cores("0::/\n", files), None);
        assert_eq!(quota_cores("garbage", files), None);
    }
}
