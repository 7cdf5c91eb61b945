# headers.tcl --
#
# Each header compiles on its own, with the warnings of the build.

source [file join [file dirname [info script]] lib common.tcl]

set cc [expr {[info exists env(CC)] && $env(CC) ne {} ? $env(CC) : "gcc"}]
set checked 0
foreach path [files include/*.h engine/*/*.h ext/*/*.h test/c/*.h \
    test/bench/*.h] {
  incr checked
  if {[catch {
    exec {*}$cc -std=c11 -D_GNU_SOURCE -I. -Iinclude -Wall -Wextra -Wpedantic \
      -Wshadow -Wno-unused-function -fsyntax-only -include $path -x c /dev/null
  } message]} {
    finding $path "does not compile on its own:\n$message"
  }
}
lint_end $checked headers
