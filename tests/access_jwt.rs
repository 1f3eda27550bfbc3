//! JSON Web Tokens: which let somebody in, as whom, for how long, and which do not.

#[path = "support/access.rs"]
mod access;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use access::{KEY, access, in_seconds, jwt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PublicKeyData as _, SignatureAlgorithm};
use serde_json::{Value, json};
use settee::server::{Authorizer as _, Credentials, Denied, ServerAuthorizer as _, ServerRequest};
use settee::{AccessRequest, DbName, Grant};

async fn open(access: &settee::access::Access, token: &str, db: &str) -> Result<Grant, Denied> {
    let request = AccessRequest {
        credentials: Credentials::new(json!({ "token": token })),
        database: DbName::parse(db).unwrap(),
        create: false,
        peer: None,
        headers: Arc::new(HeaderMap::new()),
    };
    access.authorize(request).await
}

fn rule(databases: &str) -> Value {
    json!([{"databases": databases, "rights": ["read", "write"]}])
}

fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn anna() -> Value {
    json!({"sub": "anna", "exp": in_seconds(600.0)})
}

#[tokio::test]
async fn claims_become_a_name_roles_rules_and_an_end() {
    let access = access(json!({
        "roles": [{"name": "staff", "rules": rule("team-*"), "server": ["list"]}],
        "jwt": {
            "keys": [{"algorithm": "HS256", "secret": KEY}],
            "leeway_s": 0,
            "name_claim": "user.name",
            "roles_claim": "/https:~1~1app.example~1roles",
            "rules_claim": "settee",
            "rules": rule("user-{name}"),
        },
    }));
    let exp = in_seconds(600.0).floor();
    let claims = json!({"user": {"name": "anna"}, "exp": exp, "jti": "t1",
        "https://app.example/roles": ["staff"], "settee": rule("own-{claims.user.name}")});
    let token = jwt(&claims);
    for name in ["user-anna", "team-red", "own-anna"] {
        let grant = open(&access, &token, name).await.unwrap();
        assert_eq!((grant.user_name(), grant.token_name()), (Some("anna"), Some("t1")), "{name}");
        assert!(format!("{grant:?}").contains("write: true"), "{grant:?}");
    }
    for name in ["user-berta", "other", "own-berta"] {
        assert!(open(&access, &token, name).await.is_err(), "{name}");
    }
    let mut other = claims.clone();
    other["https://app.example/roles"] = json!("reader staff");
    assert!(open(&access, &jwt(&other), "team-red").await.is_ok(), "a text with spaces");
    other["settee"] = json!([{"databases": "*"}]);
    assert!(open(&access, &jwt(&other), "user-anna").await.is_err(), "rules that are none");
    let request = ServerRequest {
        credentials: Credentials::new(json!({ "token": token })),
        peer: None,
        headers: Arc::new(HeaderMap::new()),
    };
    let grant = access.authorize_server(request).await.unwrap();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(exp);
    let expected = settee::server::ServerGrant::known().listing().user("anna").token("t1");
    assert_eq!(grant, expected.expires_at(end));
}

#[tokio::test]
async fn times_audience_and_issuer_are_checked() {
    let access = access(json!({"jwt": {
        "keys": [{"algorithm": "HS256", "secret": KEY}],
        "audience": ["settee", "gateway"], "issuer": ["https://login.example"], "leeway_s": 20,
        "rules": rule("*"),
    }}));
    let good = json!({"sub": "anna", "exp": in_seconds(600.0), "aud": "settee",
        "iss": "https://login.example"});
    let check = async |change: &dyn Fn(&mut Value), expected: Result<(), &str>| {
        let mut claims = good.clone();
        change(&mut claims);
        let answer = open(&access, &jwt(&claims), "todos").await;
        let got = answer.map(drop).map_err(|denied| denied.reason);
        match (&got, expected) {
            (Ok(()), Ok(())) => {}
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{claims} {reason}"),
            _ => panic!("{claims}: {got:?}"),
        }
    };
    let set =
        |name: &'static str, value: Value| move |claims: &mut Value| claims[name] = value.clone();
    let without = |name: &'static str| {
        move |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove(name))
    };
    check(&|_| {}, Ok(())).await;
    check(&set("exp", json!(in_seconds(-10.0))), Ok(())).await;
    check(&set("exp", json!(in_seconds(-30.0))), Err("expired")).await;
    check(&set("exp", json!("tomorrow")), Err("")).await;
    check(&without("exp"), Err("lacks a claim")).await;
    check(&set("nbf", json!(in_seconds(10.0))), Ok(())).await;
    check(&set("nbf", json!(in_seconds(60.0))), Err("not valid yet")).await;
    check(&set("aud", json!(["x", "gateway"])), Ok(())).await;
    check(&set("aud", json!("other")), Err("audience")).await;
    check(&without("aud"), Err("lacks a claim")).await;
    check(&set("iss", json!("https://evil.example")), Err("issuer")).await;
    check(&without("iss"), Err("lacks a claim")).await;
}

/// A pair of keys: the algorithm's name, the private key, the public one in PEM.
fn pair(kind: &'static SignatureAlgorithm) -> (KeyPair, String) {
    let pair = KeyPair::generate_for(kind).unwrap();
    let public = pem("PUBLIC KEY", &pair.subject_public_key_info());
    (pair, public)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[tokio::test]
async fn each_algorithm_works_with_its_own_key_alone() {
    let (rsa, rsa_public) = pair(&rcgen::PKCS_RSA_SHA256);
    let (p256, p256_public) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (p384, p384_public) = pair(&rcgen::PKCS_ECDSA_P384_SHA384);
    let (ed, ed_public) = pair(&rcgen::PKCS_ED25519);
    let of_rsa = || EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let of_ec = |pair: &KeyPair| EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let secret = "s".repeat(64);
    let of_secret = || EncodingKey::from_secret(secret.as_bytes());
    let of_ed = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    let signers = [
        (Algorithm::HS256, of_secret()),
        (Algorithm::HS384, of_secret()),
        (Algorithm::HS512, of_secret()),
        (Algorithm::RS256, of_rsa()),
        (Algorithm::RS384, of_rsa()),
        (Algorithm::RS512, of_rsa()),
        (Algorithm::PS256, of_rsa()),
        (Algorithm::PS384, of_rsa()),
        (Algorithm::PS512, of_rsa()),
        (Algorithm::ES256, of_ec(&p256)),
        (Algorithm::ES384, of_ec(&p384)),
        (Algorithm::EdDSA, of_ed),
    ];
    for (own, _) in &signers {
        let mut key = json!({"kid": "k", "algorithm": format!("{own:?}")});
        match own {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => key["secret"] = json!(secret),
            Algorithm::ES256 => key["public_key"] = json!(p256_public),
            Algorithm::ES384 => key["public_key"] = json!(p384_public),
            Algorithm::EdDSA => key["public_key"] = json!(ed_public),
            _ => key["public_key"] = json!(rsa_public),
        }
        let access = access(json!({"jwt": {"keys": [key], "rules": rule("*")}}));
        for (algorithm, signer) in &signers {
            for kid in [None, Some("k"), Some("other")] {
                let token = signed(*algorithm, kid, signer, &anna());
                let opened = open(&access, &token, "todos").await.is_ok();
                let expected = own == algorithm && kid != Some("other");
                assert_eq!(opened, expected, "{algorithm:?} {kid:?} at a key for {own:?}");
            }
        }
        // The public key taken for a secret, and no signature at all.
        for public in [&rsa_public, &p256_public, &ed_public] {
            let token = signed(
                Algorithm::HS256,
                Some("k"),
                &EncodingKey::from_secret(public.as_bytes()),
                &anna(),
            );
            assert!(open(&access, &token, "todos").await.is_err(), "HS256 with a public key");
        }
        for alg in ["none", "None", "NONE", ""] {
            let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let head = part(json!({"alg": alg, "typ": "JWT", "kid": "k"}));
            for signature in ["", "AA"] {
                let token = format!("{head}.{}.{signature}", part(anna()));
                assert!(open(&access, &token, "todos").await.is_err(), "{alg:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_was_changed_is_no_good() {
    let access = access(json!({"jwt": {"keys": [{"algorithm": "HS256", "secret": KEY}],
        "rules": rule("user-{name}")}}));
    let token = jwt(&anna());
    assert!(open(&access, &token, "user-anna").await.is_ok());
    let pieces: Vec<&str> = token.split('.').collect();
    let mut claims = anna();
    claims["sub"] = json!("berta");
    let berta =
        format!("{}.{}.{}", pieces[0], URL_SAFE_NO_PAD.encode(claims.to_string()), pieces[2]);
    let denied = open(&access, &berta, "user-berta").await.unwrap_err();
    assert!(denied.reason.contains("signature"), "{denied}");
    for bad in
        ["", "a.b.c", "..", &token[..token.len() - 2], &format!("{token}x"), &"a".repeat(20_000)]
    {
        assert!(open(&access, bad, "user-anna").await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_set_of_keys_is_read_again_when_it_changes() {
    let jwk = |kid: &str, secret: &str| json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(secret)});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let write = |keys: Value| {
        let fresh = dir.path().join("fresh");
        std::fs::write(&fresh, json!({ "keys": keys }).to_string()).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
    };
    let (one, two) = ("1".repeat(32), "2".repeat(32));
    write(json!([jwk("one", &one)]));
    let access = access(json!({"jwt": {"jwks_file": path, "rules": rule("*")}}));
    let token = |kid: &str, secret: &str| {
        signed(Algorithm::HS256, Some(kid), &EncodingKey::from_secret(secret.as_bytes()), &anna())
    };
    let opens =
        async |kid: &str, secret: &str| open(&access, &token(kid, secret), "todos").await.is_ok();
    assert!(opens("one", &one).await && !opens("two", &two).await);
    write(json!([jwk("one", &one), jwk("two", &two)]));
    assert!(opens("one", &one).await && opens("two", &two).await);
    write(json!([jwk("two", &two)]));
    assert!(!opens("one", &one).await && opens("two", &two).await);
    assert!(!opens("two", &one).await, "a known kid with another's key");
    std::fs::write(&path, "no keys").unwrap();
    assert!(opens("two", &two).await, "what cannot be read leaves what there was");
    std::fs::remove_file(&path).unwrap();
    assert!(opens("two", &two).await);
    let usage = |mut key: Value| {
        key["use"] = json!("enc");
        key
    };
    write(json!([usage(jwk("two", &two)), jwk("one", &one)]));
    assert!(opens("one", &one).await && !opens("two", &two).await, "a key for another use");
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let (_, public) = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
    let long = "x".repeat(32);
    for key in [
        json!({"algorithm": "none", "secret": long}),
        json!({"algorithm": "HS256"}),
        json!({"algorithm": "HS256", "secret": "hunter2"}),
        json!({"algorithm": "HS256", "secret": long, "public_key": public}),
        json!({"algorithm": "HS256", "public_key": public}),
        json!({"algorithm": "ES256", "secret": long}),
        json!({"algorithm": "RS256", "public_key": public}),
        json!({"algorithm": "ES256", "public_key": "hunter2"}),
        json!({"algorithm": "HS256", "secret": long, "secret_file": "x"}),
        json!({"algorithm": "HS256", "secret_file": "/nowhere/at/all"}),
    ] {
        let settings = json!({"jwt": {"keys": [key]}});
        let settings: settee::access::Settings = serde_json::from_value(settings).unwrap();
        let error = settings.build().expect_err(&key.to_string()).to_string();
        assert!(!error.contains("hunter2") && !error.contains(&long), "{error}");
    }
    for jwt in [json!({}), json!({"jwks_file": "/nowhere/at/all"})] {
        let settings = json!({ "jwt": jwt });
        let settings: settee::access::Settings = serde_json::from_value(settings).unwrap();
        assert!(settings.build().is_err(), "{jwt}");
    }
}
