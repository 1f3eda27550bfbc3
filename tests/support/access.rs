//! Gateways whose rules are settings, as a configuration file gives them.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use settee::Store;
use settee::access::{Access, Settings};
use settee::server::{Gateway, GatewayBuilder};

/// The secret of the gateway's HS256 key.
pub const KEY: &str = "a secret of at least thirty-two bytes";

pub fn access(settings: Value) -> Access {
    let settings: Settings = serde_json::from_value(settings).expect("the settings can be read");
    Access::new(settings.build().expect("the settings can be used"))
}

/// A gateway under settings, and the handle by which they are replaced.
pub fn gateway(store: Store, settings: Value) -> (GatewayBuilder, Access) {
    let access = access(settings);
    let builder = Gateway::builder(store).authorizer(access.clone());
    (builder.server_authorizer(access.clone()), access)
}

/// Seconds since 1970, shifted.
pub fn in_seconds(seconds: f64) -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs_f64() + seconds
}

/// A token of [`KEY`].
pub fn jwt(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(KEY.as_bytes())).expect("it signs")
}

/// A token for a name that ends after a time.
pub fn token_for(name: &str, time: Duration) -> String {
    jwt(&json!({"sub": name, "exp": in_seconds(time.as_secs_f64())}))
}

/// Settings of a token that may do everything.
pub fn everything(name: &str, token: &str) -> Value {
    let rights = json!(["read", "write", "create", "destroy", "admin"]);
    json!({"name": name, "token": token, "server": ["list", "admin", "backup", "replicate", "events"],
        "rules": [{"databases": "*", "rights": rights}]})
}
