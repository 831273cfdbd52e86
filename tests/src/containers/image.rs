//! Which images are used: those of the local stack.

const COMPOSE: &str = include_str!("../../../localstack/compose.yaml");

/// The image that a variable names, or else what the compose file does without it: name and tag.
pub(super) fn named(variable: &str) -> (String, String) {
    let image = std::env::var(variable).ok().filter(|image| !image.is_empty());
    split(&image.unwrap_or_else(|| default(variable).to_owned()))
}

fn default(variable: &str) -> &'static str {
    let (_, rest) = COMPOSE.split_once(&format!("${{{variable}:-")).expect("the compose file has a default");
    rest.split('}').next().expect("a part")
}

/// A digest counts as a tag: Docker puts a colon before either.
fn split(image: &str) -> (String, String) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (image.to_owned(), "latest".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_a_tag_or_a_digest() {
        for (image, name, tag) in [
            ("rabbitmq:4.2", "rabbitmq", "4.2"),
            ("rabbitmq", "rabbitmq", "latest"),
            ("mirror.example:5000/library/rabbitmq", "mirror.example:5000/library/rabbitmq", "latest"),
            ("mirror.example:5000/rabbitmq:4", "mirror.example:5000/rabbitmq", "4"),
            ("rabbitmq@sha256:0123", "rabbitmq@sha256", "0123"),
        ] {
            assert_eq!(split(image), (name.to_owned(), tag.to_owned()));
        }
    }

    #[test]
    fn the_compose_file_says_what_is_used_by_default() {
        assert!(default("STREAMBOX_RABBITMQ_IMAGE").starts_with("rabbitmq:4"));
        assert!(default("STREAMBOX_LOCALSTACK_IMAGE").starts_with("localstack/localstack:"));
    }
}
