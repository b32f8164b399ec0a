//! How a bridge proves who it is.

use crate::config::block::{block, choice};
use crate::config::kinds::{Duration, SecretRef, Text};

block! {
    /// How the bridge proves who it is beside a certificate.
    pub struct Auth {
        /// Which way.
        kind: AuthKind => default("password");
        /// Key that signs, for every kind but `password`; a reference: `credential:NAME`, `file:PATH` or `env:NAME`.
        key: SecretRef => optional;
        /// Name of the device there. Left out, the client id.
        device: Text => optional;
        /// Product that the device belongs to, for `aliyun` and `tencent`.
        product: Text => optional;
        /// Host name of the hub, for `sas`. Left out, the host of `url`.
        host: Text => optional;
        /// Shared access policy that the key belongs to, for `sas`. Left out, the key is the device's own.
        policy: Text => optional;
        /// How long a token holds, for `sas` and `tencent`. The connection is made anew, in order, before it ends.
        ttl: Duration => default("1h"), "10s" to "365d";
    }
}

choice! {
    /// How the bridge proves who it is.
    pub enum AuthKind {
        /// by `username` and `password`, if they are given
        Password = "password",
        /// by a shared access signature (Azure IoT Hub)
        Sas = "sas",
        /// by Alibaba's signature
        Aliyun = "aliyun",
        /// by Tencent's signature
        Tencent = "tencent",
        /// by Huawei's signature
        Huawei = "huawei",
    }
}
