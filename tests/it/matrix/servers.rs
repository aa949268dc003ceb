//! A RabbitMQ node and a Postgres cluster of the tests' own, on free ports in folders of their own, that can be stopped,
//! killed, frozen and started again. The machine's own servers are left alone.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::service::{eventually, signal};

/// Where Debian keeps the scripts of RabbitMQ; those in `sbin` change the user first.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin";
/// Where Debian keeps the versions of Postgres.
const POSTGRES: &str = "/usr/lib/postgresql";

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether somebody listens there.
fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Waits until a server listens; it must not have ended meanwhile.
pub fn await_port(child: &mut Child, port: u16, log: &Path) {
    let up = eventually(|| {
        if let Some(status) = child.try_wait().unwrap() {
            let log = fs::read_to_string(log).unwrap_or_default();
            panic!("the server ended with {status}: {log}");
        }
        listens(port).then_some(())
    });
    up.unwrap_or_else(|| panic!("nobody listens: {}", fs::read_to_string(log).unwrap_or_default()));
}

/// Ends a child for good.
fn kill(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// A RabbitMQ node.
pub struct Rabbit {
    folder: TempDir,
    /// Of AMQP.
    pub port: u16,
    distribution: u16,
    node: Child,
}

impl Rabbit {
    /// A new node; none, with a message, where RabbitMQ is not installed.
    pub fn start() -> Option<Self> {
        if !Path::new(RABBITMQ).join("rabbitmq-server").exists() {
            println!("skipped: rabbitmq-server is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let (port, distribution) = (free_port(), free_port());
        fs::write(folder.path().join("plugins"), "[].\n").unwrap();
        fs::write(folder.path().join("rabbitmq.conf"), format!("listeners.tcp.default = 127.0.0.1:{port}\n"))
            .unwrap();
        fs::write(folder.path().join("password"), "guest").unwrap();
        let node = Self::boot(folder.path(), distribution);
        let mut rabbit = Self { folder, port, distribution, node };
        rabbit.await_up();
        Some(rabbit)
    }

    /// Starts the process; it is the Erlang machine itself, so that killing it kills the node.
    fn boot(folder: &Path, distribution: u16) -> Child {
        let log = fs::File::create(folder.join("out")).unwrap();
        let mut command = Self::tool(folder, distribution, "rabbitmq-server");
        command.env("detached", "true").stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// One of its programs, with the environment that belongs to this node.
    fn tool(folder: &Path, distribution: u16, name: &str) -> Command {
        let mut command = Command::new(Path::new(RABBITMQ).join(name));
        command
            .env("HOME", folder)
            .env("RABBITMQ_NODENAME", format!("aftercheck{distribution}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("none"));
        command
    }

    /// Waits until it takes connections.
    fn await_up(&mut self) {
        let log = self.folder.path().join("out");
        await_port(&mut self.node, self.port, &log);
    }

    /// Where clients connect through a port, its own or a proxy's.
    pub fn url(port: u16) -> String {
        format!("amqp://guest@127.0.0.1:{port}/%2f")
    }

    /// The file that holds the password of its user.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        kill(&mut self.node);
    }

    /// Saves which folder holds which quorum queue. RabbitMQ does so half a second to a second after a queue is
    /// declared; a node that is killed before has forgotten the queue, and nothing answers for it any more.
    pub fn save_queues(&self) {
        let answer = self.ctl(&["eval", "dets:sync(ra_directory_reverse)."]);
        assert!(answer.contains("ok"), "{answer}");
    }

    /// Starts it again on the same port with what is on its disk.
    pub fn start_again(&mut self) {
        self.node = Self::boot(self.folder.path(), self.distribution);
        self.await_up();
    }

    /// Freezes it, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        signal(&self.node, if frozen { "STOP" } else { "CONT" });
    }

    /// Where its logs are.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Runs `rabbitmqctl`; gives what it prints.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Self::tool(self.folder.path(), self.distribution, "rabbitmqctl");
        let output = command.arg("--quiet").args(arguments).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Postgres cluster.
pub struct Postgres {
    folder: TempDir,
    binaries: PathBuf,
    /// Of its clients.
    pub port: u16,
    server: Child,
}

impl Postgres {
    /// A new cluster; none, with a message, where Postgres is not installed.
    pub fn start() -> Option<Self> {
        let versions = fs::read_dir(POSTGRES).into_iter().flatten().map_while(Result::ok);
        let newest =
            versions.map(|version| version.path().join("bin")).filter(|path| path.join("initdb").exists());
        let Some(binaries) = newest.max() else {
            println!("skipped: postgresql is not installed");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        own(folder.path());
        let data = folder.path().join("data");
        let mut initdb = as_other(&binaries.join("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "-D"]).arg(&data);
        let made = initdb.current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port();
        let server = Self::boot(&binaries, folder.path(), port);
        let mut postgres = Self { folder, binaries, port, server };
        postgres.await_up();
        Some(postgres)
    }

    /// Starts the process. Without fsync: what a killed server wrote is in the system's hands, and that stays up.
    fn boot(binaries: &Path, folder: &Path, port: u16) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("out")).unwrap();
        let mut command = as_other(&binaries.join("postgres"));
        command.arg("-D").arg(folder.join("data")).args(["-p", &port.to_string(), "-F", "-k", ""]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=32MB"]);
        // A group of its own, so that all of its processes can be frozen.
        command.current_dir(folder).process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Waits until it answers.
    fn await_up(&mut self) {
        let log = self.folder.path().join("out");
        await_port(&mut self.server, self.port, &log);
        let tables = crate::tables::Tables::Postgres(Self::url(self.port));
        eventually(|| tables.number("SELECT 1::bigint").ok()).expect("the server answers");
    }

    /// Where clients connect through a port, its own or a proxy's.
    pub fn url(port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    /// Puts a rule in front of those that say who may log in and how, and sees to it that it holds.
    pub fn login_rule(&self, rule: &str) {
        let rules = self.folder.path().join("data/pg_hba.conf");
        let others = fs::read_to_string(&rules).unwrap();
        fs::write(&rules, format!("{rule}\n{others}")).unwrap();
        signal(&self.server, "HUP");
    }

    /// Ends it at once, without a checkpoint, telling its clients: `pg_ctl stop -m immediate`.
    pub fn stop_immediately(&mut self) {
        signal(&self.server, "QUIT");
        drop(self.server.wait());
    }

    /// Kills its first process; the others end by themselves.
    pub fn kill(&mut self) {
        kill(&mut self.server);
    }

    /// Starts it again on the same port with what is on its disk.
    pub fn start_again(&mut self) {
        // Processes of a killed one hold its memory until they have noticed.
        let binaries = self.binaries.clone();
        eventually(|| {
            self.server = Self::boot(&binaries, self.folder.path(), self.port);
            let log = self.folder.path().join("out");
            let up = eventually(|| match self.server.try_wait().unwrap() {
                Some(_) => Some(false),
                None => listens(self.port).then_some(true),
            });
            up.filter(|up| *up).ok_or(log).ok().map(drop)
        })
        .expect("the server starts again");
        self.await_up();
    }

    /// Freezes all of it, or lets it go on. Each process that serves a connection is of a group of its own, so they are
    /// found by their parent; the parent comes first, so that it starts no others meanwhile.
    pub fn freeze(&self, frozen: bool) {
        let name = if frozen { "-STOP" } else { "-CONT" };
        let signal = |ids: &[String]| Command::new("kill").arg(name).args(ids).status().unwrap().success();
        assert!(signal(&[self.server.id().to_string()]));
        let children = children(self.server.id());
        assert!(!children.is_empty());
        // One that has ended meanwhile, as those do that clean up, needs no signal; the others get theirs.
        signal(&children);
    }
}

/// Processes that this one has started.
fn children(parent: u32) -> Vec<String> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let is_child = |id: &String| {
        // `1234 (its name) S 1200 …`: state and parent follow the name, which may hold anything.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&parent.to_string())
    };
    processes.filter(|name| name.parse::<u32>().is_ok()).filter(is_child).collect()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may have ended already.
        let group = format!("-{}", self.server.id());
        for name in ["-CONT", "-QUIT"] {
            drop(Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status());
        }
        drop(self.server.wait());
    }
}

/// Whether we are root, whom Postgres refuses.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// A program, run as `postgres` where we are root.
fn as_other(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
    command
}

/// Gives a folder to `postgres` where we are root.
fn own(folder: &Path) {
    if is_root() {
        let given = Command::new("chown").arg("postgres:postgres").arg(folder).status().unwrap();
        assert!(given.success(), "chown {}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgres_comes_back_with_what_was_committed() {
        let _turn = crate::matrix::turn();
        let Some(mut postgres) = Postgres::start() else { return };
        let tables = crate::tables::Tables::Postgres(Postgres::url(postgres.port));
        tables.execute("CREATE TABLE kept (number bigint); INSERT INTO kept VALUES (7)").unwrap();
        postgres.kill();
        assert!(tables.number("SELECT number FROM kept").is_err());
        postgres.start_again();
        assert_eq!(tables.number("SELECT number FROM kept").unwrap(), 7);
        postgres.stop_immediately();
        postgres.start_again();
        assert_eq!(tables.number("SELECT number FROM kept").unwrap(), 7);
    }

    #[test]
    fn a_rabbitmq_node_comes_back() {
        let _turn = crate::matrix::turn();
        let Some(mut rabbit) = Rabbit::start() else { return };
        assert!(rabbit.ctl(&["list_vhosts"]).contains('/'));
        rabbit.kill();
        assert!(!listens(rabbit.port));
        rabbit.start_again();
        assert!(rabbit.ctl(&["list_vhosts"]).contains('/'));
    }
}
