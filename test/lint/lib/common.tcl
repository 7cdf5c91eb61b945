# common.tcl --
#
# What the lint scripts share. A script calls `finding` for each thing that is
# wrong and `lint_end` last; its exit status is 1 if there was a finding.
# Scripts run in the root of the repository.

package require Tcl 8.6
cd [file dirname [file dirname [file dirname [file dirname \
  [file normalize [info script]]]]]]

set ::findings 0

proc finding {where text} {
  incr ::findings
  puts "$where: $text"
}

proc lint_end {checked what} {
  set name [file rootname [file tail $::argv0]]
  if {$checked == 0} { finding $name "found no $what to look at" }
  puts "lint $name: $checked $what, $::findings findings"
  exit [expr {$::findings > 0}]
}

proc read_text {path} {
  set f [open $path]
  fconfigure $f -encoding utf-8
  try { return [read $f] } finally { close $f }
}

proc files {args} { lsort [glob -nocomplain {*}$args] }

proc c_files {} {
  files include/*.h {engine/*/*.[ch]} {ext/*/*.[ch]}
}

# C source with comments, strings and characters blanked, lines kept.
proc code_only {text} {
  set pattern {/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'}
  set result {}
  set at 0
  foreach span [regexp -all -inline -indices -- $pattern $text] {
    lassign $span from to
    append result [string range $text $at [expr {$from - 1}]]
    append result [regsub -all {[^\n]} [string range $text $from $to] { }]
    set at [expr {$to + 1}]
  }
  append result [string range $text $at end]
}
