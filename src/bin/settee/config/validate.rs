//! The table `[validate]`: what documents must be before they are stored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use settee::Selector;
use settee::server::GatewayBuilder;
use settee::validate::{Rule, Service, Unreachable};

use crate::failure::Failure;

/// Rules and services, asked in this order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Validate {
    pub rules: Vec<RuleTable>,
    pub services: Vec<ServiceTable>,
}

/// One of `[[validate.rules]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    pub databases: String,
    /// A file with a JSON Schema.
    pub schema: Option<PathBuf>,
    pub selector: Option<serde_json::Value>,
    #[serde(default)]
    pub immutable: Vec<String>,
    pub reason: Option<String>,
}

/// One of `[[validate.services]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTable {
    pub databases: String,
    pub url: String,
    pub timeout_ms: Option<u32>,
    /// A file with the secret that questions are signed with.
    pub secret_file: Option<PathBuf>,
    #[serde(default)]
    pub unreachable: Unreachable,
}

impl std::fmt::Debug for ServiceTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An address may hold a password.
        f.debug_struct("ServiceTable").field("databases", &self.databases).finish_non_exhaustive()
    }
}

/// The validators of a table, made before the data directory is touched.
pub struct Validators {
    rules: Vec<Rule>,
    services: Vec<Service>,
}

impl Validate {
    pub fn validators(&self) -> Result<Validators, Failure> {
        Ok(Validators {
            rules: self.rules.iter().map(RuleTable::rule).collect::<Result<_, _>>()?,
            services: self.services.iter().map(ServiceTable::service).collect::<Result<_, _>>()?,
        })
    }
}

impl Validators {
    pub fn add_to(self, mut builder: GatewayBuilder) -> GatewayBuilder {
        for rule in self.rules {
            builder = builder.validator(rule);
        }
        for service in self.services {
            builder = builder.validator(service);
        }
        builder
    }
}

impl RuleTable {
    fn rule(&self) -> Result<Rule, Failure> {
        let mut rule = Rule::new(self.databases.parse()?);
        if let Some(path) = &self.schema {
            let problem = |problem: String| Failure::Config { path: path.clone(), problem };
            let text = std::fs::read_to_string(path).map_err(Failure::file("read", path))?;
            let schema = serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
            rule = rule.schema(&schema).map_err(|error| problem(error.to_string()))?;
        }
        if let Some(selector) = &self.selector {
            rule = rule.selector(Selector::from_value(selector)?);
        }
        rule = rule.immutable(self.immutable.iter().map(String::as_str))?;
        if let Some(reason) = &self.reason {
            rule = rule.reason(reason);
        }
        Ok(rule)
    }
}

impl ServiceTable {
    fn service(&self) -> Result<Service, Failure> {
        let mut service = Service::new(self.databases.parse()?, &self.url)?;
        if let Some(timeout_ms) = self.timeout_ms {
            service = service.timeout(Duration::from_millis(timeout_ms.into()))?;
        }
        if let Some(path) = &self.secret_file {
            service = service.signed(secret(path)?);
        }
        Ok(service.unreachable(self.unreachable))
    }
}

/// A file's text without the line's end that editors add.
fn secret(path: &Path) -> Result<Vec<u8>, Failure> {
    let text = std::fs::read_to_string(path).map_err(Failure::file("read", path))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(Failure::Config { path: path.to_owned(), problem: "holds no secret".into() });
    }
    Ok(secret.as_bytes().to_vec())
}
