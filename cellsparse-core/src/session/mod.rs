//! Training as a conversation: draw a little, see the answer, correct it.
//!
//! A [`Project`] is a folder with images, what was drawn on them and the model. Every [`Edit`] is in a journal on the disk
//! before it is answered, so that a program which is killed loses none, and can be undone. A [`Learner`] trains in short rounds
//! from the starting weights on: each goes on with the optimiser's state, sees what is drawn by then, and keeps the better
//! of the old and the new weights by the drawn cells. What it finds is joined with what was drawn ([`Answer`]), so that a
//! correction counts at once, and objects on which an image and its mirror image disagree are [`suggestions`] where to draw
//! next.
//!
//! Of a large image in a file of which parts can be read ([`Slide`]), no more is read than is looked at: training reads the parts
//! around what was drawn, previews the part that is shown.
//!
//! Coordinates of shapes are `[x, y]` in pixels from the corner of the image: the pixel in row `r` and column `c` covers
//! `c..c + 1` and `r..r + 1`.

mod answer;
mod canvas;
mod doubt;
mod edit;
mod journal;
mod learner;
mod picture;
mod project;
mod record;
mod shapes;
mod slide;

pub use self::answer::{Answer, Origin};
pub use self::canvas::{Canvas, Change};
pub use self::doubt::{Suggestion, Why, suggestions};
pub use self::edit::{Edit, Ink, Run, Shape, runs_of};
pub use self::learner::{Learner, Round, RoundOptions, Window, agreement};
pub use self::picture::Picture;
pub use self::project::{Pixels, Project, Settings, TrainingData};
pub use self::slide::Slide;
