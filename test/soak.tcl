# soak.tcl --
#
# The long form of the tests, for T (seconds, or 90s, 85m, 12h):
#
#   1. the Tcl and C suites, in as many permutations as half of the time allows
#   2. the harnesses (`Soak: weight` in their headers), for the rest of the time:
#      3/6 of it in the test build, 2/6 under the address sanitizer, 1/6 under
#      the race detector
#
#   tclsh test/soak.tcl T ?seed?
#
# The first part is left out of a soak under SUITES_S. The seed is new each time
# and printed first; what was done is summed by name, printed, and added to
# build/soak-ledger.tsv. Then what must be zero, as the failures' words have it,
# and the last line is
#
#   N passed, N failed

package require Tcl 8.6

set root [file dirname [file dirname [file normalize [info script]]]]
lassign $argv time seed

proc seconds_of {text} {
  if {![regexp {^(\d+)(s|m|h|)$} $text -> n unit]} {
    puts stderr "T=$text: a number of seconds, or 90s, 85m, 12h"
    exit 2
  }
  expr {$n * [dict get {s 1 m 60 h 3600 {} 1} $unit]}
}

if {$seed eq {}} {
  set f [open /dev/urandom rb]
  binary scan [read $f 4] nu seed
  close $f
}
set T [seconds_of $time]
set start [clock seconds]
puts "soak: seed $seed, $T s"
flush stdout

set passed 0
set failed 0
set counts $root/build/soak-counts.tsv
file delete $counts

set SUITES_S 1500

# What must not be, and words by which a failure says that it was: the first that
# fits. Of a harness that failed without them its answers were wrong.
set zeros {
  {lost commits} {it is there|acknowledged|missing acked|\mlost\M}
  {holes} {was_absent|prefix|later than the one before|an LSN of its own}
  {resurrections} {what failed is not there|STATE_ABSENT|KIND_REFUSED}
  {hangs over 1 s} {within a second|hangs|time limit|deadlock|is_stuck}
  {leaks} {LeakSanitizer|alloc_count|descriptors|leak}
  {races} {ThreadSanitizer: data race}
  {memory errors} {AddressSanitizer|runtime error|ThreadSanitizer}
  {wrong reads} {failed|: case}
  {other failures} {.}
}
foreach {what -} $zeros { set found($what) 0 }

# A line that run.tcl prints: if it tells of a failure, of which?
proc classify {line} {
  global zeros found
  if {![regexp {failed|: case \d+, pid|hangs|SUMMARY:|runtime error|^! } $line] ||
      [regexp {^\d+ (passed|failed)|^! .* it ended with \d+$} $line]} return
  foreach {what words} $zeros {
    if {[regexp $words $line]} { incr found($what); return }
  }
}

# Run run.tcl, showing what it prints; its sums are added to ours.
proc run {title args} {
  global root seed passed failed counts
  puts "\n== $title, [clock format [clock seconds] -format %H:%M:%S]"
  flush stdout
  set h [open "|[list [info nameofexecutable] $root/test/run.tcl -seed $seed \
    -counts [string range $counts [string length $root/] end] {*}$args] 2>@1" r]
  while {[gets $h line] >= 0} {
    puts $line
    flush stdout
    classify $line
    regexp {^(\d+) passed, (\d+) failed$} $line -> p f
  }
  set code [catch { close $h }]
  if {![info exists p]} { set p 0; set f 1 }
  incr passed $p
  incr failed [expr {$f + ($code && $f == 0)}]
}

proc left {} {
  global T start
  expr {$T - ([clock seconds] - $start)}
}

foreach perm {default tiny nommap nobackground} {
  if {$T < $SUITES_S || [left] < $T / 2} break
  run "suites, permutation $perm" -build build/test -perm $perm
}
set rest [left]
foreach {name sanitizer share} {test {} 3 asan asan 2 tsan tsan 1} {
  set seconds [expr {$rest * $share / 7}] ;# a test's last case takes longer
  set match [expr {$name eq "tsan" ?
    "process* history* sched* kill_test diff_test" : "*"}]
  run "harnesses, $seconds s, build $name" -build build/$name \
    -sanitizer $sanitizer -soak $seconds -match $match
}

puts "\nwhat was done, seed $seed, [expr {[clock seconds] - $start}] s:"
if {[file exists $counts]} {
  set f [open $counts]
  set text [read $f]
  close $f
  set f [open $root/build/soak-ledger.tsv a]
  foreach line [split [string trim $text] \n] {
    puts "  [format {%-28s %14s} {*}$line]"
    puts $f "[clock format $start -format %Y-%m-%dT%H:%M]\t$seed\t$line"
  }
  close $f
}
set told 0
foreach {what -} $zeros { incr told $found($what) }
if {$told == 0} { set {found(other failures)} $failed }
puts {}
foreach {what -} $zeros { puts "  [format {%-28s %14s} $what $found($what)]" }
puts "\nseed $seed"
puts "$passed passed, $failed failed"
exit [expr {$failed > 0}]
