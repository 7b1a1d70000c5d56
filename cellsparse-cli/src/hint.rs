//! What to do about an error, in the words of the command line.

use cellsparse_core::{Error, Reason};

/// The error as one line that cannot move the cursor of a terminal or change its colours.
pub fn line(error: &Error) -> String {
    let text = match hint(error) {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    harmless(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A text from outside, such as a name in a file, with every control character but the end of a line replaced.
///
/// Escape sequences could otherwise rewrite what the terminal shows, and the marks of direction what it seems to say.
pub fn harmless(text: &str) -> String {
    let is_safe = |c: char| c == '\n' || !(c.is_control() || is_direction(c));
    text.chars().map(|c| if is_safe(c) { c } else { '\u{fffd}' }).collect()
}

/// Characters that change the direction of the text after them.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn hint(error: &Error) -> Option<String> {
    Some(match error.reason()? {
        Reason::LabelEncoding { suggested, .. } => format!("pass --label-encoding {suggested}"),
        Reason::DeviceAbsent { feature: Some(feature), .. } => {
            format!("build with --features {feature}, or choose --device cpu")
        }
        Reason::DeviceAbsent { feature: None, .. } => "choose --device cpu".into(),
        Reason::Unchosen { option, .. } => format!("pass --{option} N"),
        Reason::Channels { .. } => "--select-channels N,... chooses channels".into(),
        Reason::NotResumable => "leave --resume out to begin with a new optimiser".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use cellsparse_core::model::Device;
    use cellsparse_core::{Image, Model, PredictOptions, StarDistConfig};

    use super::*;

    #[test]
    fn options_are_named_as_this_program_has_them() {
        let line = |reason| line(&Error::Labels("they look dense".into()).because(reason));
        let dense = Reason::label_encoding("dense");
        assert_eq!(line(dense), "labels: they look dense; pass --label-encoding dense");
        assert!(line(Reason::NotResumable).ends_with("leave --resume out to begin with a new optimiser"));
        assert!(line(Reason::unchosen("plane", 3)).ends_with("; pass --plane N"));
        assert!(line(Reason::channels(3, 1)).ends_with("; --select-channels N,... chooses channels"));
        assert_eq!(line(Reason::Damaged), "labels: they look dense");
    }

    #[cfg(not(feature = "metal"))]
    #[test]
    fn an_absent_device_says_what_to_build_and_what_to_choose() {
        let config = StarDistConfig { n_filter_base: 2, n_depth: 1, n_rays: 3, ..StarDistConfig::default() };
        let model = Model::stardist(config, 0).unwrap();
        let image = Image::from_gray(ndarray::Array2::from_shape_fn((16, 16), |(y, x)| (y * x) as f32));
        let options = PredictOptions { device: Device::Metal, ..PredictOptions::default() };
        let text = line(&model.predict(&image, &options).unwrap_err());
        assert!(text.ends_with("build with --features metal, or choose --device cpu"), "{text}");
    }

    #[test]
    fn texts_from_files_move_no_cursor() {
        let error = Error::file("a\u{1b}[2J.png", "array '\u{1b}]0;x\u{7}\u{9b}\u{202e}' is\nunknown");
        let text = line(&error);
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
        assert!(text.contains("[2J.png") && text.ends_with("is unknown"), "{text:?}");
        assert_eq!(harmless("two\nlines, µ and 細胞"), "two\nlines, µ and 細胞");
    }
}
