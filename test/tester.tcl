# tester.tcl --
#
# What every *.test file sources first: cases, the database of the file, fault
# loops, copies of stores. Other processes (shells, helpers, daemon, curl) are
# in procs.tcl, which this file sources.
#
# A test file runs in a tclsh of its own, in an empty directory
# build/tmp/<name>/ that is removed when everything passed. run.tcl starts it;
# `tclsh test/name.test` does the same without it. The environment says which
# build and how:
#
#   SKV_BUILD        directory with stratakv.so, stratakvd (build/test)
#   SKV_RELEASE      directory of the release build (build)
#   SKV_PERM         default tiny nommap nobackground
#   SKV_SEED         seed of everything random
#   SKV_SANITIZER    asan, tsan or empty; the preload's path in SKV_PRELOAD
#
# The last line, "!result passed failed skipped", is for run.tcl.

package require Tcl 8.6
package require sqlite3

# ---- Where we are ------------------------------------------------------------

set ::test_root [file dirname [file dirname [file normalize [info script]]]]
set ::test_script [file normalize $::argv0]
set ::test_name [file rootname [file tail $::test_script]]

proc env_or {name default} {
  if {[info exists ::env($name)] && $::env($name) ne {}} {
    return $::env($name)
  }
  return $default
}

set ::build [file normalize [env_or SKV_BUILD \
  [file join $::test_root build test]]]
set ::release [file normalize [env_or SKV_RELEASE \
  [file join $::test_root build]]]
set ::perm [env_or SKV_PERM default]
set ::seed [env_or SKV_SEED 1]
set ::sanitizer [env_or SKV_SANITIZER {}]
expr {srand($::seed)}

# Options that a permutation adds to each CREATE VIRTUAL TABLE run through
# execsql, and the test build's environment. Sizes in bytes.
set ::perm_options {}
switch -- $::perm {
  default {}
  tiny {
    set ::env(SKV_TEST_WAL_SIZE) 65536
    set ::env(SKV_TEST_BLOCK_SIZE) 512
    set ::env(SKV_TEST_SEGMENT_SIZE) 16384
  }
  nommap { set ::perm_options {mmap=off} }
  nobackground { set ::perm_options {background=off} }
  default { error "no permutation $::perm" }
}

# The sanitizer's library goes before tclsh and sqlite3, and only these: curl
# does not even start with it. procs.tcl gives it to what it starts.
set ::preload [env_or LD_PRELOAD {}]
unset -nocomplain ::env(LD_PRELOAD)

# A sanitized process is several times slower: bounds are multiplied.
set ::patience [expr {$::sanitizer eq {} ? 1 : 8}]

# The directory of this file's run; the current directory from here on.
proc test_dir {} {
  file join $::test_root build tmp $::test_name
}
file delete -force [test_dir]
file mkdir [test_dir]
cd [test_dir]

# ---- Cases ---------------------------------------------------------------------

set ::passed 0
set ::failed 0
set ::skipped 0
set ::testprefix $::test_name

proc case_name {name} {
  if {[string match "$::testprefix-*" $name]} { return $name }
  return "$::testprefix-$name"
}

proc case_passed {name} {
  incr ::passed
}

proc case_failed {name text} {
  incr ::failed
  puts "! [case_name $name]"
  puts $text
  flush stdout
}

# Compare. An expected /text/ is a regular expression, ~/text/ one that must
# not match.
proc result_matches {result expected} {
  if {[regexp {^/(.*)/$} $expected -> pattern]} {
    return [regexp -- $pattern $result]
  }
  if {[regexp {^~/(.*)/$} $expected -> pattern]} {
    return [expr {![regexp -- $pattern $result]}]
  }
  string equal $result $expected
}

# Run script in the caller's scope: its result must be `expected`. An error in
# the script fails the case, and the file goes on.
proc do_test {name script expected} {
  if {[catch {uplevel 1 $script} result options]} {
    case_failed $name \
      "    error: $result\n    [dict get $options -errorinfo]"
    return
  }
  if {[result_matches $result $expected]} {
    case_passed $name
  } else {
    case_failed $name "    expected: $expected\n    got:      $result"
  }
}

# A case that cannot run here: counted and named.
proc skip_test {name reason} {
  incr ::skipped
  puts "- [case_name $name]: $reason"
}

# Skip the whole file.
proc skip_file {reason} {
  skip_test all $reason
  finish_test
}

proc finish_test {} {
  catch { close_all_processes }
  catch { db close }
  if {$::failed == 0 && $::passed > 0} {
    cd $::test_root
    file delete -force [test_dir]
  }
  puts "!result $::passed $::failed $::skipped"
  exit [expr {$::failed > 0 || $::passed + $::skipped == 0}]
}

# ---- The database --------------------------------------------------------------

# Add the permutation's options to table definitions that do not name them.
proc perm_sql {sql} {
  if {$::perm_options eq {}} { return $sql }
  set pattern {(?i)(USING\s+stratakv\s*\()([^)]*)\)}
  set result {}
  while {[regexp -indices $pattern $sql all head body]} {
    set options [string range $sql {*}$body]
    append result [string range $sql 0 [lindex $body 1]]
    foreach option $::perm_options {
      set name [lindex [split $option =] 0]
      if {![regexp "\\m$name\\s*=" $options]} { append result ", $option" }
    }
    append result ")"
    set sql [string range $sql [expr {[lindex $all 1] + 1}] end]
  }
  append result $sql
}

proc extension_path {} { file join $::build stratakv.so }

# Load the extension, and in a test build its skvtest_ functions.
proc load_stratakv {dbcmd} {
  $dbcmd enable_load_extension 1
  set so [extension_path]
  $dbcmd eval { SELECT load_extension($so) }
  if {[is_test_build]} {
    $dbcmd eval { SELECT load_extension($so, 'sqlite3_skvtest_init') }
  }
}

# A test build's directory holds the C tests' objects, the release's does not.
proc is_test_build {} {
  expr {$::build ne $::release}
}

proc need_test_build {} {
  if {![is_test_build]} { skip_file "needs the test build" }
}

# Open another connection: `connect db2 other.db`.
proc connect {dbcmd file} {
  sqlite3 $dbcmd $file
  load_stratakv $dbcmd
}

# Everything of before is gone; `db` is open on test.db.
proc reset_db {} {
  catch { db close }
  foreach name [glob -nocomplain *.strata test.db*] {
    file delete -force $name
  }
  connect db test.db
}

proc execsql {sql {dbcmd db}} {
  uplevel 1 [list $dbcmd eval [perm_sql $sql]]
}

# {0 result} or {1 message}
proc catchsql {sql {dbcmd db}} {
  set code [catch { uplevel 1 [list $dbcmd eval [perm_sql $sql]] } result]
  list $code $result
}

proc do_execsql_test {name sql {expected {}}} {
  if {![regexp {^~?/.*/$} $expected]} { set expected [list {*}$expected] }
  uplevel 1 [list do_test $name [list execsql $sql] $expected]
}

proc do_catchsql_test {name sql expected} {
  if {![regexp {^~?/.*/$} $expected]} { set expected [list {*}$expected] }
  uplevel 1 [list do_test $name [list catchsql $sql] $expected]
}

# Make `db errorcode` give extended codes (test build).
proc extended_codes {{dbcmd db}} {
  $dbcmd eval { SELECT skvtest_extended_codes(1) }
}

# ---- Stores --------------------------------------------------------------------

# Copy a store's files as they are, as a killed process would leave them. Logs
# are mostly zeros, which become holes.
proc copy_store {from to} {
  file delete -force $to
  exec cp -a --sparse=always $from $to
}

# Run script with a copy of `saved` as app.strata, opened by a fresh `db` whose
# table kv is a temp. one; the store is dropped afterwards.
proc with_copy {saved script} {
  catch { db close }
  copy_store $saved app.strata
  connect db :memory:
  set code [catch {
    execsql { CREATE VIRTUAL TABLE temp.kv USING stratakv('app.strata') }
    uplevel 1 $script
  } result options]
  catch { db close }
  file delete -force app.strata
  return -options $options $result
}

# All keys of kv, in order.
proc all_keys {{dbcmd db}} {
  $dbcmd eval { SELECT key FROM kv ORDER BY key }
}

proc file_bytes {path} {
  set f [open $path rb]
  try { return [read $f] } finally { close $f }
}

proc write_bytes_at {path offset bytes} {
  set f [open $path r+b]
  try { seek $f $offset; puts -nonewline $f $bytes } finally { close $f }
}

proc flip_bit {path offset {bit 0}} {
  set f [open $path r+b]
  try {
    seek $f $offset
    binary scan [read $f 1] cu byte
    seek $f $offset
    puts -nonewline $f [binary format c [expr {$byte ^ (1 << $bit)}]]
  } finally { close $f }
}

# Newest file of a store that matches a pattern, by name.
proc newest_file {store pattern} {
  lindex [lsort [glob -nocomplain -directory $store $pattern]] end
}

# ---- Chance ----------------------------------------------------------------------

# An integer in [0, n), from SKV_SEED.
proc random_below {n} {
  expr {int(rand() * $n)}
}

# ---- Fault loops -----------------------------------------------------------------
#
# do_faultsim_test name -faults {oom-* ...} -prep script -body script -test script
#
# For each class, the 1st, 2nd, 3rd ... call within -body fails (once, or from
# there on: -forever), until a round in which nothing fired. After each round
# -test runs; it calls faultsim_test_result. One case per class.

# Class (what skvtest_fault arms, and whether it goes on), and the errors that it
# may show as.
set ::fault_classes {
  oom-once         {out of memory}
  oom-forever      {out of memory}
  ioerr-once       {injected}
  ioerr-forever    {injected}
  full-once        {injected|disk full}
  full-forever     {injected|disk full}
  fsync-once       {injected|fdatasync failed}
  fsync-forever    {injected|fdatasync failed}
  cantopen-once    {injected}
  cantopen-forever {injected}
  lock-once        {injected|another process}
  lock-forever     {injected|another process}
}
set ::fault_max_rounds [expr {$::sanitizer eq {} ? 3000 : 600}]

proc do_faultsim_test {name args} {
  array set o {-faults * -prep {} -body {} -test {}}
  array set o $args
  set ran 0
  foreach {class pattern} $::fault_classes {
    set wanted 0
    foreach glob $o(-faults) { if {[string match $glob $class]} { set wanted 1 } }
    if {!$wanted || ![fault_available $class]} continue
    incr ran
    uplevel 1 [list fault_loop $name-$class $class $pattern \
      $o(-prep) $o(-body) $o(-test)]
  }
  if {!$ran} { skip_test $name "no fault class of $o(-faults) in this build" }
}

# Fault functions live on a connection of their own, which no fault hits.
proc fault_db {} {
  if {[info commands fault_control] eq {}} { connect fault_control :memory: }
  return fault_control
}

proc fault_available {class} {
  if {![is_test_build]} { return 0 }
  lassign [split $class -] kind
  [fault_db] onecolumn { SELECT skvtest_fault_available($kind) }
}

proc fault_loop {name class pattern prep body test} {
  lassign [split $class -] kind how
  set forever [expr {$how eq {forever}}]
  set before $::failed
  set ::faultsim_pattern $pattern
  for {set n 1} {$n <= $::fault_max_rounds} {incr n} {
    set ::faultsim_round $name.$n
    if {[catch { uplevel 1 $prep } message options]} {
      case_failed $name.$n "    prep: [dict get $options -errorinfo]"
      return
    }
    [fault_db] eval { SELECT skvtest_fault($kind, $n, $forever) }
    set ::faultsim_code [catch { uplevel 1 $body } ::faultsim_result]
    set ::faultsim_hits [[fault_db] onecolumn { SELECT skvtest_fault_end() }]
    if {[catch { uplevel 1 $test } message options]} {
      case_failed $name.$n "    test: [dict get $options -errorinfo]"
    }
    if {$::failed > $before + 5} break
    if {$::faultsim_hits == 0} break
  }
  if {$::failed == $before} {
    if {$n == 1} {
      case_failed $name "    nothing fired: the loop ran no round"
    } else {
      case_passed $name
      if {[env_or SKV_VERBOSE 0]} { puts "$name: [expr {$n - 1}] rounds" }
    }
  }
}

# Within -test: the body's result is `expected` ({code result}), or, if a fault
# fired, an error that matches the class.
proc faultsim_test_result {expected} {
  set got [list $::faultsim_code $::faultsim_result]
  if {$got eq $expected} return
  if {$::faultsim_hits > 0 && $::faultsim_code == 1 &&
      [regexp -nocase -- $::faultsim_pattern $::faultsim_result]} return
  case_failed $::faultsim_round \
    "    expected: $expected\n    got:      $got (fired $::faultsim_hits times)"
}

source [file join $::test_root test procs.tcl]
