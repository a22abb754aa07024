//! The driver: which measurement follows which, and what is wiped between them.
//!
//! # What a cold start is
//!
//! 1. The side to be measured has neither layer nor snapshot of the image.
//! 2. The kernel's caches were dropped; programs and the registry's blobs were read again.
//!
//! A measurement that fails is written down and the others go on.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::containerd::Containerd;
use crate::image::Image;
use crate::machine::Machine;
use crate::process::drop_caches;
use crate::registry::Registry;
use crate::report::{ConversionRow, RIVAL, Report, Row, Start};
use crate::slipway::{Node, convert};

/// What to measure and where.
#[derive(Debug)]
pub struct Options {
    /// The binary to measure.
    pub slipway: PathBuf,
    /// Directory with one OCI layout for each image.
    pub images_dir: PathBuf,
    /// Directory for everything that is written.
    pub work: PathBuf,
    /// Names of the images.
    pub images: Vec<String>,
    /// How often each cold start is measured.
    pub runs: usize,
    /// Rates of the line.
    pub rates: Vec<String>,
    /// Milliseconds added to each round trip, besides none.
    pub delays_ms: Vec<u64>,
    /// The ways to measure.
    pub ways: Vec<Way>,
}

/// A way to start an image, or to convert one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// containerd pulls, unpacks and runs.
    Containerd,
    /// `slipway run` of the image as it was pushed.
    Plain,
    /// `slipway run` of the accelerated tag.
    Accelerated,
    /// `slipway image convert`.
    Convert,
}

impl Way {
    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => RIVAL,
            Self::Plain => "slipway, plain",
            Self::Accelerated => "slipway, accelerated",
            Self::Convert => "convert",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Accelerated => "latest_accelerated",
            Self::Containerd | Self::Plain | Self::Convert => "latest",
        }
    }
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "containerd" => Self::Containerd,
            "plain" => Self::Plain,
            "accelerated" => Self::Accelerated,
            "convert" => Self::Convert,
            _ => bail!("`{text}` is none of containerd, plain, accelerated, convert"),
        })
    }
}

/// A bench with its images at hand.
#[derive(Debug)]
pub struct Bench {
    options: Options,
    images: Vec<Image>,
}

/// One thing to measure: a way, an image, a line.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    image: &'a Image,
    rate: &'a str,
    way: Way,
    delay_ms: u64,
}

/// What runs while starts are measured.
#[derive(Debug)]
struct Sides {
    node: Node,
    containerd: Option<Containerd>,
    registry: Registry,
}

impl Bench {
    /// Opens the images and makes the work directory.
    ///
    /// # Errors
    ///
    /// An image is missing, or the directory cannot be made.
    pub fn new(mut options: Options) -> Result<Self> {
        options.slipway = fs::canonicalize(&options.slipway)
            .with_context(|| format!("no program at {}", options.slipway.display()))?;
        options.images_dir = fs::canonicalize(&options.images_dir)?;
        fs::create_dir_all(&options.work)?;
        options.work = fs::canonicalize(&options.work)?;
        let images = options
            .images
            .iter()
            .map(|name| Image::open(&options.images_dir, name))
            .collect::<Result<_>>()?;
        Ok(Self { options, images })
    }

    /// Measures everything that was asked for.
    ///
    /// # Errors
    ///
    /// Something that every measurement needs does not start.
    pub fn run(&self) -> Result<Report> {
        let mut report = Report {
            machine: Machine::observe(&self.options.work)?,
            rows: Vec::new(),
            conversions: Vec::new(),
            failures: Vec::new(),
        };
        if self.options.ways.contains(&Way::Convert) {
            self.measure_conversions(&mut report);
        }
        if self.options.ways.iter().any(|way| *way != Way::Convert) {
            self.measure_starts(&mut report)?;
        }
        Ok(report)
    }

    fn measure_conversions(&self, report: &mut Report) {
        for image in &self.images {
            say(&format!("converting {}", image.name));
            let runs = (0..image.full_runs(self.options.runs))
                .map(|_| convert(&self.options.slipway, image, &self.options.work))
                .collect::<Result<Vec<_>>>();
            match runs {
                Ok(runs) => {
                    report.conversions.push(ConversionRow {
                        image: image.name.clone(),
                        runs,
                    });
                }
                Err(error) => {
                    report
                        .failures
                        .push(format!("conversion of {}: {error:#}", image.name));
                }
            }
        }
    }

    fn measure_starts(&self, report: &mut Report) -> Result<()> {
        let sides = self.start_sides()?;
        for image in &self.images {
            say(&format!(
                "pushing {} and waiting for its conversion",
                image.name
            ));
            if let Err(error) = sides.registry.push(image) {
                report
                    .failures
                    .push(format!("push of {}: {error:#}", image.name));
                continue;
            }
            for case in self.cases(image) {
                say(&format!(
                    "{} at {} +{} ms: {}",
                    image.name,
                    case.rate,
                    case.delay_ms,
                    case.way.name()
                ));
                match self.measure(&sides, case) {
                    Ok(row) => report.rows.push(row),
                    Err(error) => report.failures.push(format!(
                        "{} at {} +{} ms, {}: {error:#}",
                        image.name,
                        case.rate,
                        case.delay_ms,
                        case.way.name()
                    )),
                }
            }
            sides.registry.shaped().shape(None)?;
        }
        Ok(())
    }

    fn start_sides(&self) -> Result<Sides> {
        let Options {
            slipway,
            work,
            ways,
            delays_ms,
            ..
        } = &self.options;
        for old in ["registry", "node"] {
            let _absent = fs::remove_dir_all(work.join(old));
        }
        let mut registry = Registry::start(slipway, work)?;
        for delay_ms in delays_ms.iter().filter(|delay_ms| **delay_ms > 0) {
            registry.add_delay(*delay_ms)?;
        }
        let node = Node::start(slipway, registry.shaped(), work)?;
        let containerd = if ways.contains(&Way::Containerd) {
            Some(Containerd::start(registry.shaped(), work)?)
        } else {
            None
        };
        Ok(Sides {
            node,
            containerd,
            registry,
        })
    }

    /// Returns what to measure of an image, in the order of the table.
    fn cases<'a>(&'a self, image: &'a Image) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for rate in &self.options.rates {
            for way in [Way::Containerd, Way::Plain, Way::Accelerated] {
                if !self.options.ways.contains(&way) {
                    continue;
                }
                cases.push(Case {
                    image,
                    rate,
                    way,
                    delay_ms: 0,
                });
                if way == Way::Accelerated {
                    let delays = self
                        .options
                        .delays_ms
                        .iter()
                        .filter(|delay_ms| **delay_ms > 0);
                    cases.extend(delays.map(|delay_ms| Case {
                        image,
                        rate,
                        way,
                        delay_ms: *delay_ms,
                    }));
                }
            }
        }
        cases
    }

    fn measure(&self, sides: &Sides, case: Case<'_>) -> Result<Row> {
        let runs = match case.way {
            Way::Accelerated => self.options.runs,
            Way::Containerd | Way::Plain | Way::Convert => case.image.full_runs(self.options.runs),
        };
        sides.registry.shaped().shape(Some(case.rate))?;
        let mut cold = Vec::new();
        for _ in 0..runs {
            sides.make_cold(case)?;
            cold.push(sides.start(case, Cached::No)?);
        }
        let warm = (0..self.options.runs)
            .map(|_| sides.start(case, Cached::Yes))
            .collect::<Result<_>>()?;
        Ok(Row {
            image: case.image.name.clone(),
            rate: case.rate.to_owned(),
            way: case.way.name().to_owned(),
            delay_ms: case.delay_ms,
            cold,
            warm,
        })
    }
}

/// Whether the image was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    Yes,
    No,
}

impl Sides {
    fn make_cold(&self, case: Case<'_>) -> Result<()> {
        self.node.wipe()?;
        if let Some(containerd) = &self.containerd {
            let reference = self.registry.reference(case.image, case.way.tag(), 0)?;
            containerd.wipe(self.registry.shaped(), &reference)?;
        }
        drop_caches()?;
        Containerd::warm_tools();
        self.node.warm_tools();
        self.registry.warm(case.image, case.way.tag())
    }

    fn start(&self, case: Case<'_>, cached: Cached) -> Result<Start> {
        let namespace = self.registry.shaped();
        let reference = self
            .registry
            .reference(case.image, case.way.tag(), case.delay_ms)?;
        let bytes_before = namespace.loopback_bytes()?;
        let mut start = match (case.way, &self.containerd) {
            (Way::Containerd, Some(containerd)) => {
                let pull_ms = match cached {
                    Cached::No => containerd.pull(namespace, &reference)?,
                    Cached::Yes => 0.0,
                };
                containerd.run(namespace, &reference, case.image, pull_ms)?
            }
            _ => self.node.run(namespace, &reference, case.image)?,
        };
        start.bytes = namespace.loopback_bytes()? - bytes_before;
        Ok(start)
    }
}

#[expect(
    clippy::print_stderr,
    reason = "a bench takes minutes: it says where it is"
)]
fn say(what: &str) {
    eprintln!("== {what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::LayerSizes;

    #[test]
    fn each_rate_has_every_way_and_the_accelerated_one_every_delay() {
        let layers = LayerSizes { count: 1, bytes: 1 };
        let image = Image {
            name: "mid".into(),
            layout: PathBuf::new(),
            layers,
        };
        let options = Options {
            slipway: PathBuf::new(),
            images_dir: PathBuf::new(),
            work: PathBuf::new(),
            images: Vec::new(),
            runs: 1,
            rates: vec!["1gbit".into(), "100mbit".into()],
            delays_ms: vec![0, 10, 30],
            ways: vec![Way::Accelerated, Way::Containerd],
        };
        let bench = Bench {
            options,
            images: Vec::new(),
        };
        let cases: Vec<(Way, u64)> = bench
            .cases(&image)
            .iter()
            .map(|case| (case.way, case.delay_ms))
            .collect();
        let one_rate = [
            (Way::Containerd, 0),
            (Way::Accelerated, 0),
            (Way::Accelerated, 10),
            (Way::Accelerated, 30),
        ];
        assert_eq!(cases, [one_rate, one_rate].concat());
    }
}
