//! Models as other systems save them, made into ours. Foreign quirks end here: inside there is one
//! split operator (`<=`), one leaf shape (votes to add), one class order.

pub mod spark;
