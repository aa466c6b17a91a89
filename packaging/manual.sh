#!/bin/sh
# manual.sh VERSION prints the man page of that version.
sed "s/^\(\.TH DANEPOST 8 [^ ]*\) danepost /\1 \"danepost $1\" /" "$(dirname "$0")/man/danepost.8"
