# coverage.tcl --
#
# Runs the tests of build/gcov and prints, by file, how many branches they took
# of the code that every byte of a store passes: records, manifest, recovery,
# shared page, locks, decoding. All of them are wanted.
#
#   tclsh test/coverage.tcl ?globs of tests? ?-keep?
#
# -keep adds to the counts of earlier runs. test/coverage.tsv lists what no test
# reaches: file, line of code, branches, reason. A branch that is missed and not
# listed is a failure; a row of which nothing is left is named, to be removed
# (races take some branches in some runs only).

package require Tcl 8.6

set root [file dirname [file dirname [file normalize [info script]]]]
cd $root
set build build/gcov
set list test/coverage.tsv
set files {
  engine/wal/batch.c engine/wal/wal.c engine/tree/manifest.c engine/tree/edit.c
  engine/db/recover.c engine/db/state.c engine/db/attach.c
  engine/db/write_lock.c engine/db/head.c engine/seg/seg_block.c
  engine/seg/seg_index.c engine/seg/seg_filter.c engine/seg/seg_footer.c
  engine/seg/seg_frame.c engine/seg/seg_compress.c engine/store/head.c
}

# C tests that read and write these files, what meets them through SQL, and the
# harnesses, an N-th of what `make test` does.
set tests {
  attach_test backup_test check_test compact_test damage_test db_test
  decode_test diff_test disk_test fault_sites_test fuzz history_test host_test
  images_test ingest_test kill_test lost_test order_test picker_test
  process_test recover_fault_test recover_test salvage_test sched_test seg_test
  shared_test store_test sweep_test tree_test wal_test
  vtab_basic vtab_conflict store_fault processes
}
set env(SKV_PART) 40
set keep [expr {"-keep" in $argv}]
set given [lsearch -all -inline -not $argv -keep]
if {[llength $given] && [lindex $given 0] ni {* {}}} { set tests [join $given] }

# ---- Running -----------------------------------------------------------------

if {!$keep} {
  file delete {*}[split [exec find $build/obj -name *.gcda] \n]
}
set failed [catch {
  exec [info nameofexecutable] test/run.tcl -build $build -limit 900 \
    -match $tests >@stdout 2>@stderr
}]
if {$failed} { puts "coverage: a test failed; the figures are of what ran" }

# ---- Counting ----------------------------------------------------------------

# What gcov says of one file: a list of {line code taken missed}, a line with
# branches each.
proc branches_of {path} {
  global build
  set data $build/obj/[file rootname $path].gcda
  if {![file exists $data]} { error "no counts for $path: did its tests run?" }
  set text [exec gcov --branch-probabilities --branch-counts --stdout $data 2>/dev/null]
  set lines {}
  set here 0
  foreach line [split $text \n] {
    if {[regexp {^ *-: +0:Source:(.*)$} $line -> source]} {
      set here [string match *$path $source]
    } elseif {!$here} {
      continue
    } elseif {[regexp {^ *[^:]+: *(\d+):(.*)$} $line -> number code]} {
      set at [list $number [string trim $code]]
    } elseif {[regexp {^branch +\d+ (taken (\d+)|never executed)} $line -> how n]} {
      set taken [expr {$how ne {never executed} && $n > 0}]
      dict incr count($at) $taken
      if {$at ni $lines} { lappend lines $at }
    }
  }
  set result {}
  foreach at $lines {
    set c [dict merge {0 0 1 0} $count($at)]
    lappend result [list {*}$at [dict get $c 1] [dict get $c 0]]
  }
  return $result
}

# file\tcode -> {branches reason}
proc read_list {path} {
  set known {}
  if {![file exists $path]} { return $known }
  set f [open $path]
  foreach line [split [string trim [read $f]] \n] {
    if {[string match #* $line]} continue
    lassign [split $line \t] file code branches reason
    if {$reason eq {}} { error "$path: no reason: $line" }
    dict set known $file\t$code [list $branches $reason]
  }
  close $f
  return $known
}

set known [read_list $list]
set left $known
set new {}
set sum {0 0 0}
puts [format "\n%-28s %9s %6s %7s" file branches missed listed]
foreach path $files {
  set all 0
  set missed 0
  set listed 0
  unset -nocomplain open
  array set open {}
  foreach row [branches_of $path] {
    lassign $row number code taken lost
    incr all [expr {$taken + $lost}]
    if {!$lost} continue
    incr missed $lost
    # The same line may stand in a file several times.
    if {![info exists open($code)]} { set open($code) {0 {}} }
    lassign $open($code) n numbers
    set open($code) [list [expr {$n + $lost}] [concat $numbers $number]]
  }
  foreach code [lsort [array names open]] {
    lassign $open($code) n numbers
    set allowed 0
    if {[dict exists $known $path\t$code]} {
      set allowed [lindex [dict get $known $path\t$code] 0]
      dict unset left $path\t$code
    }
    incr listed [expr {min($n, $allowed)}]
    if {$n > $allowed} { lappend new [list $path $numbers $code $n $allowed] }
  }
  puts [format "%-28s %9d %6d %7d" $path $all $missed $listed]
  set sum [lmap a $sum b [list $all $missed $listed] {expr {$a + $b}}]
}
puts [format "%-28s %9d %6d %7d" {} {*}$sum]

foreach row $new {
  lassign $row path numbers code n allowed
  puts "$path:[join $numbers ,]: $n of its branches not taken\
    ($allowed listed): $code"
}
dict for {key value} $left { puts "taken, but listed: [string map {\t {: }} $key]" }
puts "[llength $new] gaps that are not listed, [dict size $left] listed in vain"
exit [expr {$failed || [llength $new] > 0}]
