//! Being written on branch w-exec by another engineer: do not write this file here.
