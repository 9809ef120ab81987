//! `interfaces.testflinger`.

use super::{OidcLogin, Testflinger, section::Section};

/// Reads the section.
pub(super) fn read(mut section: Section<'_, '_>, testflinger: &mut Testflinger) {
    section.bool("enabled", &mut testflinger.enabled);
    section.parsed("listen", &mut testflinger.listen, |text| super::read::address(text).map(Some));
    let settings = &mut testflinger.settings;
    section.bool("strict", &mut settings.strict);
    section.duration("lease", &mut settings.lease);
    section.parsed("expired", &mut settings.requeue, |text| match text {
        "requeue" => Ok(true),
        "fail" => Ok(false),
        other => Err(format!("`{other}` is neither requeue nor fail")),
    });
    section.size("file_max", &mut settings.file_bytes_max);
    section.maybe_path("secrets_key_file", &mut testflinger.secrets_key_file);
    section.maybe_name("webhook_host", &mut testflinger.webhook_host);
    section.maybe_path("webhook_token_file", &mut testflinger.webhook_token_file);
    if let Some(section) = section.section("oidc", "`interfaces.testflinger.oidc`") {
        testflinger.oidc = oidc(section);
    }
    section.finish();
}

fn oidc(mut section: Section<'_, '_>) -> Option<OidcLogin> {
    use api::testflinger::{NAME_CLAIM_DEFAULT, SCOPE_DEFAULT};
    let (mut issuer, mut client_id, mut client_secret_file) = (None, String::new(), None);
    let (mut scope, mut name_claim) = (SCOPE_DEFAULT.to_owned(), NAME_CLAIM_DEFAULT.to_owned());
    section.require("issuer");
    section.parsed("issuer", &mut issuer, |text| super::signed::web_url(text).map(Some));
    section.require("client_id");
    section.name("client_id", &mut client_id);
    section.maybe_path("client_secret_file", &mut client_secret_file);
    section.name("scope", &mut scope);
    section.name("name_claim", &mut name_claim);
    section.finish();
    Some(OidcLogin { issuer: issuer?, client_id, client_secret_file, scope, name_claim })
}
