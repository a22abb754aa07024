//! What an accelerated image is: tar scan, chunk table, root tree. Pure
