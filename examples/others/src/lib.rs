//! Examples with libraries of others; they are beside `src/`.
