//! Which images are used: those of the local stack.

use streambox_localstack::docker;

/// The image that a variable names, or else the compose file: name and tag.
pub(super) fn named(variable: &str) -> (String, String) {
    split(&docker::image(variable))
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
}
