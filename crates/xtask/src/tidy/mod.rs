//! Checks of the tree.
