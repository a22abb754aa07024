//! Reads `WWW-Authenticate`: how a registry wants to be authenticated to.

/// What a registry asks for in a 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password in each request.
    Basic,
    /// A token from a token service.
    Bearer(BearerChallenge),
}

/// Where to get a token, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct BearerChallenge {
    /// URL of the token service.
    pub(super) realm: String,
    /// Who the token is for.
    pub(super) service: Option<String>,
    /// What the token is for.
    pub(super) scope: Option<String>,
}

impl Challenge {
    /// Reads one header line; `None` if it asks for a scheme we do not know.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, parameters) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut bearer = BearerChallenge::default();
        let mut rest = parameters;
        while let Some((key, value, after)) = next_parameter(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => bearer.realm = value,
                "service" => bearer.service = Some(value),
                "scope" => bearer.scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        (!bearer.realm.is_empty()).then_some(Self::Bearer(bearer))
    }
}

/// Splits `key="value", …` or `key=value, …` after its first pair.
fn next_parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', ',', '\t']);
    let (key, rest) = text.split_once('=')?;
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, after) = rest.split_once(',').unwrap_or((rest, ""));
        return Some((key.trim(), value.trim().to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((key.trim(), value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            character => value.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bearer_challenge_names_its_token_service() {
        let header = r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a:pull,push""#;
        let expected = BearerChallenge {
            realm: "https://auth.example/token".to_owned(),
            service: Some("r".to_owned()),
            scope: Some("repository:a:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(header), Some(Challenge::Bearer(expected)));
    }

    #[test]
    fn unquoted_and_escaped_values_are_read() {
        let Some(Challenge::Bearer(bearer)) =
            Challenge::parse(r#"bearer Realm=http://a/t , error="in\"valid", service=s"#)
        else {
            panic!("a bearer challenge was written");
        };
        assert_eq!(
            (bearer.realm.as_str(), bearer.service.as_deref()),
            ("http://a/t", Some("s"))
        );
    }

    #[test]
    fn other_schemes_and_nonsense_are_not_challenges() {
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
        for header in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"unclosed",
        ] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_not(header in "(Bearer )?[a-z=\", \\\\]{0,60}") {
            let _parsed = Challenge::parse(&header);
        }
    }
}
