//! The registry of a bench: images are pushed to it once and converted by it once.
//!
//! It lives in the shaped namespace, and in a second one without a rate, from which the proxies
//! reach it: a byte that takes the long way crosses the shaped loopback once, as every other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::image::{Image, LayerSizes, layer_sizes};
use crate::namespace::Namespace;
use crate::process::{Server, bounded, run, warm};

/// Its port; the namespace has no other.
const PORT: u16 = 5000;

/// Addresses of the devices between the namespaces: of a net that is kept for examples.
const SHAPED_ADDRESS: &str = "192.0.2.1";
const OUTSIDE_ADDRESS: &str = "192.0.2.2";

/// How long a conversion may take: five times what the largest example should need.
const CONVERSION_MAX: Duration = Duration::from_mins(10);

/// A running registry and the namespaces that reach it.
#[derive(Debug)]
pub struct Registry {
    // Fields are dropped in this order: the servers before the namespaces they live in.
    proxies: Vec<(u64, String, Server)>,
    _server: Server,
    slipway: PathBuf,
    data: PathBuf,
    logs: PathBuf,
    shaped: Namespace,
    outside: Namespace,
}

impl Registry {
    /// Starts a registry with its data in `work`/registry.
    ///
    /// # Errors
    ///
    /// A namespace cannot be made, or the registry does not start.
    pub fn start(slipway: &Path, work: &Path) -> Result<Self> {
        Namespace::remove_leftovers()?;
        let shaped = Namespace::create("shaped")?;
        let outside = Namespace::create("outside")?;
        let mask = |address: &str| format!("{address}/30");
        shaped.join(&mask(SHAPED_ADDRESS), &outside, &mask(OUTSIDE_ADDRESS))?;
        let data = work.join("registry");
        let mut command = shaped.server_command(slipway);
        command
            .args(["registry", "--listen", &format!("0.0.0.0:{PORT}"), "--data"])
            .arg(&data);
        let mut server = Server::start("registry", command, work)?;
        server.wait_for_line("ready")?;
        Ok(Self {
            proxies: Vec::new(),
            _server: server,
            slipway: slipway.to_path_buf(),
            data,
            logs: work.to_path_buf(),
            shaped,
            outside,
        })
    }

    /// Returns the namespace whose loopback is shaped.
    pub fn shaped(&self) -> &Namespace {
        &self.shaped
    }

    /// Returns the reference of a tag of an image.
    ///
    /// # Errors
    ///
    /// No proxy adds this delay.
    pub fn reference(&self, image: &Image, tag: &str, delay_ms: u64) -> Result<String> {
        let host = self.host(delay_ms)?;
        Ok(format!("{host}/bench/{}:{tag}", image.name))
    }

    /// Starts a proxy that makes each round trip `delay_ms` longer.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn add_delay(&mut self, delay_ms: u64) -> Result<()> {
        let mut command = self.shaped.server_command(&std::env::current_exe()?);
        command.args(["proxy", "--listen", "127.0.0.1:0", "--upstream"]);
        command.arg(format!("{SHAPED_ADDRESS}:{PORT}"));
        command.args([
            "--round-trip-ms",
            &delay_ms.to_string(),
            "--upstream-namespace",
        ]);
        command.arg(self.outside.path());
        let mut proxy = Server::start(&format!("proxy-{delay_ms}"), command, &self.logs)?;
        let host = proxy.wait_for_line("proxy ")?;
        self.proxies.push((delay_ms, host, proxy));
        Ok(())
    }

    /// Pushes an image with acceleration on, and waits until it is converted.
    ///
    /// # Errors
    ///
    /// A command fails, or the conversion takes too long.
    pub fn push(&self, image: &Image) -> Result<()> {
        let repository = format!("bench/{}", image.name);
        run(self
            .shaped
            .command(&self.slipway)
            .arg("--data")
            .arg(&self.data)
            .args(["repo", "accelerate", &repository, "on"]))?;
        let mut copy = self.shaped.command(Path::new("skopeo"));
        copy.args(["copy", "--quiet", "--dest-tls-verify=false"]);
        copy.arg(format!("oci:{}:latest", image.layout.display()));
        copy.arg(format!("docker://{}", self.reference(image, "latest", 0)?));
        run(&mut copy)?;
        let started = Instant::now();
        while self.manifest(image, "latest_accelerated").is_err() {
            if started.elapsed() > CONVERSION_MAX {
                bail!("{repository}:latest is not converted after {CONVERSION_MAX:?}");
            }
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Returns how large the layers of a tag are.
    ///
    /// # Errors
    ///
    /// The tag cannot be read.
    pub fn layer_sizes(&self, image: &Image, tag: &str) -> Result<LayerSizes> {
        layer_sizes(&self.manifest(image, tag)?)
    }

    /// Reads the layers of a tag into the page cache: a registry's disk is not what is measured.
    ///
    /// # Errors
    ///
    /// The tag cannot be read.
    pub fn warm(&self, image: &Image, tag: &str) -> Result<()> {
        let manifest = self.manifest(image, tag)?.to_string();
        let digests: Vec<&str> = manifest
            .split("sha256:")
            .skip(1)
            .filter_map(|rest| rest.split_at_checked(64).map(|(digest, _)| digest))
            .collect();
        let listed = run(Command::new("find")
            .arg(&self.data)
            .args(["-type", "f", "-size", "+0"]))?;
        for path in listed.stdout.lines() {
            // However the digest is split over directories.
            let joined = path.replace('/', "");
            if digests.iter().any(|digest| joined.contains(digest)) {
                warm(Path::new(path));
            }
        }
        Ok(())
    }

    fn manifest(&self, image: &Image, tag: &str) -> Result<Value> {
        let mut inspect = self.shaped.command(Path::new("skopeo"));
        inspect.args(["inspect", "--raw", "--tls-verify=false"]);
        inspect.arg(format!("docker://{}", self.reference(image, tag, 0)?));
        Ok(serde_json::from_str(&run(&mut inspect)?.stdout)?)
    }

    fn host(&self, delay_ms: u64) -> Result<String> {
        if delay_ms == 0 {
            return Ok(format!("127.0.0.1:{PORT}"));
        }
        let proxy = self.proxies.iter().find(|(delay, _, _)| *delay == delay_ms);
        let (_, host, _) = proxy.with_context(|| format!("no proxy adds {delay_ms} ms"))?;
        Ok(host.clone())
    }
}

/// Returns a bounded command that runs `program` in `namespace`.
pub fn measured(namespace: &Namespace, program: &Path) -> Command {
    let mut command = bounded(Path::new("nsenter"));
    command
        .arg(format!("--net={}", namespace.path().display()))
        .arg(program);
    command
}
