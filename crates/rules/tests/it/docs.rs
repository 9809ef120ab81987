//! The examples of the language's reference are rules that load and whose tests pass.
