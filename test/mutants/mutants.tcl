# mutants.tcl --
#
# Planted bugs: in a copy of one engine source, one call that syncs, verifies,
# checks bounds, locks, orders memory or publishes is removed or weakened, and
# the tests must notice. A survivor is a missing test, or stands in
# equivalent.txt with the reason.
#
#   tclsh test/mutants/mutants.tcl ?-list? ?-kind globs? ?-match globs?
#                                  ?-jobs n? ?-stages n? ?-tests globs?
#                                  ?-out file? ?-all?
#
#   -jobs    more than one only of tests that make no files (order mutex): two
#            runs of one test share its directory
#   -list    print the mutants' names and lines, run nothing
#   -kind    sync dirsync checksum bounds lock mutex order swap special
#   -match   globs over names, file:function:kind:n
#   -stages  only the first n stages of tests
#   -tests   only these, in this order
#   -all     those of equivalent.txt too
#   -out     append a line per mutant: name, verdict, by what, seconds; names
#            that are in it already are not run again
#
# A mutant is compiled alone and linked before the archive of its flavour, so
# that it takes the place of the archive's member: nothing else is built anew.
# `order` and `mutex` are judged in the race detector's build, `bounds` in the
# address sanitizer's, the rest in the test build, all of which must be up to
# date; in stages, the tests nearest to the source first.
#
# Exit status: 0 if every mutant was caught or is called equivalent.

package require Tcl 8.6

set root [file dirname [file dirname [file dirname [file normalize \
  [info script]]]]]
array set opt {
  -list 0 -kind * -match * -jobs 1 -stages 99 -tests {} -out {} -all 0
  -limit 100
}
for {set i 0} {$i < $argc} {incr i} {
  set name [lindex $argv $i]
  if {![info exists opt($name)]} { puts stderr "unknown option $name"; exit 2 }
  if {$name in {-list -all}} { set opt($name) 1; continue }
  set opt($name) [lindex $argv [incr i]]
}

proc read_file {path} {
  set f [open $path]
  set text [read $f]
  close $f
  return $text
}

# ---- Reading C -------------------------------------------------------------------

# The text with comments and the insides of strings blanked, so that places
# stay where they are.
proc blank_comments {text} {
  set out {}
  set at 0
  set pattern {/\*[^*]*\*+(?:[^/*][^*]*\*+)*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'}
  foreach span [regexp -all -inline -indices -- $pattern $text] {
    lassign $span from to
    append out [string range $text $at $from-1]
    append out [regsub -all {[^\n]} [string range $text $from $to] { }]
    set at [expr {$to + 1}]
  }
  append out [string range $text $at end]
}

# The place of the parenthesis that closes the one at `open`.
proc closing {text open} {
  set depth 0
  set n [string length $text]
  for {set i $open} {$i < $n} {incr i} {
    switch -- [string index $text $i] {
      ( { incr depth }
      ) { if {[incr depth -1] == 0} { return $i } }
    }
  }
  error "unbalanced parenthesis"
}

# List of {start name}: where each function's definition begins.
proc functions_of {text} {
  set found {}
  set pattern {(?n)^[a-z][\w \*]*?[ \*](\w+)\(}
  foreach {all name} [regexp -all -inline -indices -- $pattern $text] {
    set open [lindex $all 1]
    set close [closing $text $open]
    if {[regexp {^\s*\{} [string range $text $close+1 $close+4]]} {
      lappend found [list [lindex $all 0] [string range $text {*}$name]]
    }
  }
  return $found
}

proc function_at {functions place} {
  set name top
  foreach f $functions {
    if {[lindex $f 0] > $place} break
    set name [lindex $f 1]
  }
  return $name
}

# Top-level operands of an expression, as {from to} within text.
proc operands {text from to operator} {
  set depth 0
  set start $from
  set list {}
  for {set i $from} {$i <= $to} {incr i} {
    set c [string index $text $i]
    if {$c eq "("} { incr depth }
    if {$c eq ")"} { incr depth -1 }
    if {$depth == 0 && [string range $text $i $i+1] eq $operator} {
      lappend list [list $start [expr {$i - 1}]]
      set start [expr {$i + 2}]
      incr i
    }
  }
  lappend list [list $start $to]
}

# ---- Finding sites ---------------------------------------------------------------

set mutants {}   ;# of dicts: name kind file line from to with
array set ordinal {}
set lost 0       ;# blocks of special.txt that have lost their place

proc add_mutant {file text functions kind from to with} {
  global mutants ordinal opt
  set f [function_at $functions $from]
  set base $file:$f:$kind
  set name $base:[incr ordinal($base)]
  set line [expr {1 + [regexp -all \n [string range $text 0 $from]]}]
  set wanted 0
  foreach glob $opt(-kind) { if {[string match $glob $kind]} { set wanted 1 } }
  if {!$wanted} return
  foreach glob $opt(-match) {
    if {![string match $glob $name]} continue
    lappend mutants [dict create name $name kind $kind file $file line $line \
      from $from to $to with $with]
    return
  }
}

# Calls of a function: script sees `from`, `open`, `close`, `arguments`.
proc each_call {text pattern script} {
  foreach {all name} [regexp -all -inline -indices -- \
      "((?:\[\\w\\)\\]\]+->)*\\m(?:$pattern))\\(" $text] {
    upvar 1 from from open open close close arguments arguments
    set from [lindex $name 0]
    set open [lindex $all 1]
    set close [closing $text $open]
    set arguments [string range $::original $open+1 $close-1]
    # Not a definition or declaration: these begin in the first column.
    set before [string range $text [string last \n $text $from]+1 $from-1]
    if {![regexp {^\s} $before]} continue
    uplevel 1 $script
  }
}

# Where what comes from files is decoded and judged.
set decoders {
  engine/wal/*.c engine/tree/manifest.c engine/tree/edit.c engine/store/head.c
  engine/store/object.c engine/store/store.c engine/seg/seg_block.c
  engine/seg/seg_compress.c engine/seg/seg_filter.c engine/seg/seg_footer.c
  engine/seg/seg_frame.c engine/seg/seg_index.c engine/seg/seg_reader.c
  engine/mem/mem.c engine/db/recover.c engine/db/state.c engine/db/owners.c
  engine/db/ingest.c engine/util/bytes.h
}

proc is_decoder {file} {
  foreach glob $::decoders { if {[string match $glob $file]} { return 1 } }
  return 0
}

proc find_calls {file text functions} {
  set fn $functions
  each_call $text {file_sync|skv_log_sync|skv_out_sync|skv_append_sync} {
    add_mutant $file $text $fn sync $from $close STRATAKV_OK
  }
  each_call $text {dir_sync|dir_sync_parent|skv_store_sync_names} {
    add_mutant $file $text $fn dirsync $from $close STRATAKV_OK
  }
  each_call $text {skv_checksum_ok|wal_checksum_ok} {
    add_mutant $file $text $fn checksum $from $close 1
  }
  each_call $text {skv_wal_read} {
    if {[regexp {,\s*true\s*,} $arguments]} {
      add_mutant $file $text $fn checksum $from $close "skv_wal_read([regsub \
        {,\s*true\s*,} $arguments {, false,}])"
    }
  }
  each_call $text {skv_store_lock} {
    if {![regexp {SKV_UNLOCK} $arguments]} {
      add_mutant $file $text $fn lock $from $close STRATAKV_OK
    }
  }
  foreach {ordered relaxed} {
    skv_load skv_peek skv_store_word skv_poke skv_raise skv_lift
  } {
    each_call $text $ordered {
      add_mutant $file $text $fn order $from $close "${relaxed}($arguments)"
    }
  }
  each_call $text {skv_fence|atomic_thread_fence} {
    add_mutant $file $text $fn order $from $close "((void)0)"
  }
  each_call $text {atomic_\w+_explicit} {
    if {[regexp {memory_order_(release|acquire|acq_rel)} $arguments]} {
      add_mutant $file $text $fn order $open $close "([regsub -all \
        {memory_order_(release|acquire|acq_rel)} $arguments \
        memory_order_relaxed])"
    }
  }
}

# One operand of a condition is as if it were not there.
proc add_bound {file text functions from to as_if} {
  set part [string range $text $from $to]
  if {[string match {*[?]*} $part]} return
  incr from [expr {[string length $part] - [string length [string trimleft \
    $part]]}]
  add_mutant $file $text $functions bounds $from $to \
    "($as_if ([string range $::original $from $to]))"
}

# Guards of decoders: `if (a || b) return false;` without a, and without b.
proc find_bounds {file text functions} {
  if {![is_decoder $file]} return
  foreach {all open} [regexp -all -inline -indices -- {\mif (\()} $text] {
    set open [lindex $open 0]
    set close [closing $text $open]
    set then [string range $text $close+1 $close+120]
    if {![regexp {^\s*\{?\s*(return (false|NULL|skv_error_corrupt|SKV_ERROR\(err, STRATAKV_(CORRUPT|NOTADB))|rc = skv_error_corrupt)} \
        $then]} continue
    set parts [operands $text [expr {$open + 1}] [expr {$close - 1}] ||]
    foreach part $parts {
      add_bound $file $text $functions {*}$part "0 &&"
    }
  }
  # `return a && b && c;` of a predicate
  foreach {all body} [regexp -all -inline -indices -- \
      {\mreturn ([^;]*?&&[^;]*);} $text] {
    foreach part [operands $text {*}$body &&] {
      add_bound $file $text $functions {*}$part "1 ||"
    }
  }
}

# A mutex that one function both takes and gives back: neither.
proc find_mutexes {file text functions} {
  set count [llength $functions]
  for {set i 0} {$i < $count} {incr i} {
    lassign [lindex $functions $i] start name
    set end [expr {$i + 1 < $count ? [lindex $functions $i+1 0] - 1 : "end"}]
    set body [string range $text $start $end]
    array unset seen
    foreach {all what} [regexp -all -inline -- \
        {skv_mutex_lock\(([^;]*)\);} $body] {
      if {[info exists seen($what)]} continue
      set seen($what) 1
      set quoted [regsub -all {[][\\^$.|?*+(){}]} $what {\\&}]
      if {![regexp "skv_mutex_unlock\\($quoted\\);" $body]} continue
      set changed [regsub -all "skv_mutex_(lock|unlock)\\($quoted\\);" \
        [string range $::original $start $end] {((void)0);}]
      add_mutant $file $text $functions mutex $start \
        [expr {$start + [string length $body] - 1}] $changed
    }
  }
}

# Two neighbouring statements that publish, the other way round.
proc find_swaps {file text functions} {
  set step {[^\n;]*(?:skv_store_word|skv_poke|skv_say|skv_raise|skv_lift|skv_append_publish|skv_append_sync|skv_seg_name|skv_log_publish|skv_store_sync_names|skv_head_edit|file_sync|dir_rename|dir_sync|skv_out_sync)\([^;]*\);}
  # A point may stand between them, and stays there.
  set point {(?: *(?:if \(rc == STRATAKV_OK\) )?SKV_POINT\([^\n]*\n)?}
  set pattern "(?n)^( +)($step)\\n($point)\\1($step)$"
  set at 0
  while {[regexp -indices -start $at -- $pattern $text all indent one point \
      two]} {
    set indent [string range $text {*}$indent]
    add_mutant $file $text $functions swap [lindex $one 0] [lindex $two 1] \
      "[string range $::original {*}$two]\n[string range $::original \
      {*}$point]$indent[string range $::original {*}$one]"
    set at [expr {[string last \n $text [lindex $two 0]] + 1}]
  }
}

# What no rule finds: test/mutants/special.txt holds blocks of
#   @ file what it is
#   < text, on one or more lines
#   > text instead
proc find_special {} {
  global root
  set block {}
  foreach line [concat [split [read_file $root/test/mutants/special.txt] \n] \
      [list "@ "]] {
    switch -- [string index $line 0] {
      @ {
        if {$block ne {}} { add_special {*}$block }
        regexp {^@ (\S*) ?(.*)$} $line -> file what
        set block [list $file {} {}]
        if {$file eq {}} { set block {} }
      }
      < { lset block 1 [concat_line [lindex $block 1] [string range $line 2 end]] }
      > { lset block 2 [concat_line [lindex $block 2] [string range $line 2 end]] }
    }
  }
}

proc concat_line {text line} {
  if {$text eq {}} { return $line }
  return $text\n$line
}

proc add_special {file from with} {
  global root
  set text [read_file $root/$file]
  set at [string first $from $text]
  if {$at < 0 || [string first $from $text $at+1] >= 0} {
    puts stderr "special.txt: not once in $file:\n$from"
    incr ::lost
    return
  }
  add_mutant $file $text [functions_of [blank_comments $text]] special $at \
    [expr {$at + [string length $from] - 1}] $with
}

proc find_all {} {
  global root original
  foreach path [lsort [glob $root/engine/*/*.c]] {
    set file [string range $path [string length $root/] end]
    if {$file eq "engine/os/env_fault.c"} continue ;# a tool of the tests
    set original [read_file $path]
    set text [blank_comments $original]
    set functions [functions_of $text]
    find_calls $file $text $functions
    find_bounds $file $text $functions
    find_mutexes $file $text $functions
    find_swaps $file $text $functions
  }
  find_special
}

# ---- Judging one -----------------------------------------------------------------

# The tests nearest to a file, of which each takes a moment.
set near {
  engine/db/attach.c attach_test          engine/db/backup.c backup_test
  engine/db/check* check_test             engine/db/disk.c disk_test
  engine/db/ingest.c ingest_test          engine/db/inspect* check_test
  engine/db/owners.c {store_test check_test}          engine/db/recover.c recover_test
  engine/db/salvage* salvage_test
  engine/db/target.c {backup_test salvage_test}
  engine/db/* {recover_test lost_test attach_test ingest_test}
  engine/mem/* mem_test                   engine/os/* {env_test eintr_test}
  engine/seg/* {decode_test seg_test cache_test}
  engine/store/* {store_test recover_test}
  engine/tree/* {picker_test merge_test compact_test tree_test}
  engine/util/* util_test                 engine/wal/* {wal_test decode_test}
}

# For a bound: what reads crafted bytes, or the same bytes a second way (the
# fuzz targets, over their corpus and a few mutations of it).
set readers {
  engine/db/ingest.c ingest_test          engine/db/owners.c attach_test
  engine/db/state.c {recover_test ingest_test}
  engine/mem/* {mem_test wal_fuzz batch_fuzz}
  engine/seg/seg_block.c {block_fuzz segment_fuzz}
  engine/seg/seg_filter.c {filter_fuzz segment_fuzz}
  engine/seg/seg_reader.c {segment_fuzz seg_test}
  engine/seg/* segment_fuzz               engine/store/object.c store_test
  engine/store/head.c {store_test salvage_test}
  engine/store/store.c {store_test attach_test}
  engine/tree/* {tree_test manifest_fuzz}
  engine/wal/* {wal_test wal_fuzz batch_fuzz}
  engine/* {}
}
set fuzz_execs 20000

# Tests in stages, the nearest and fastest first; the first that fails ends it.
proc stages {mutant} {
  global opt near readers
  foreach {glob first} $readers {
    if {[string match $glob [dict get $mutant file]]} break
  }
  foreach {glob tests} $near {
    if {[string match $glob [dict get $mutant file]]} break
  }
  set quick {order_test recover_test lost_test attach_test store_test
    shared_test ingest_test process_test backup_test salvage_test check_test disk_test}
  switch -- [dict get $mutant kind] {
    order { set stages {race_test process_test sched_test history_test} }
    mutex {
      if {[string match engine/db/* [dict get $mutant file]]} { set tests {} }
      set stages [list [concat race_test order_test $tests process_test] history_test \
        {cache_test mem_test sched_test diff_test}]
    }
    sync - dirsync {
      set stages [list $tests images_test $quick {fault*_test kill_test} \
        *_test *]
    }
    bounds {
      set stages [list [concat decode_test $first] $tests $quick \
        damage_test fault*_test *_test]
    }
    default {
      set stages [list $tests $quick {db_test sweep_test sched_test images_test} \
        {fault*_test damage_test history_test kill_test} *_test *]
    }
  }
  if {$opt(-tests) ne {}} { set stages [list $opt(-tests)] }
  lrange $stages 0 $opt(-stages)-1
}

proc flavour_of {mutant} {
  switch -- [dict get $mutant kind] {
    order - mutex { return tsan }
    bounds { return asan }
  }
  return test
}

# The commands that made build/<flavour>, from its own record of them.
proc flags_of {flavour} {
  global root
  string trim [read_file $root/build/$flavour/obj/flags]
}

# Compile the mutant and link what the tests of `names` need; 0 if the
# compiler will not have it.
proc build_mutant {mutant dir} {
  global root
  set flavour [flavour_of $mutant]
  file delete -force $dir
  file mkdir $dir/c $dir/src
  set path $root/[dict get $mutant file]
  set text [read_file $path]
  set text [string replace $text [dict get $mutant from] [dict get $mutant to] \
    [dict get $mutant with]]
  set source $dir/src/[file tail $path]
  set f [open $source w]
  puts -nonewline $f $text
  close $f
  set flags [flags_of $flavour]
  cd $root
  if {[catch { exec {*}$flags -w -Werror=implicit-function-declaration -c \
      -o $dir/mutant.o $source 2>@1 } message]} {
    if {[regexp {error:} $message]} { return 0 }
  }
  return 1
}

proc link_c {mutant dir name} {
  global root
  set flavour [flavour_of $mutant]
  set libs {-l:liblz4.a -l:libzstd.a -lsqlite3 -ljansson}
  # As the Makefile does.
  foreach {- calls} [regexp -all -inline -line {^ \* Wraps: (.*)$} \
      [read_file $root/test/c/$name.c]] {
    foreach call $calls { lappend libs -Wl,--wrap=$call }
  }
  exec {*}[flags_of $flavour] -w -o $dir/c/$name \
    $root/build/$flavour/obj/test/c/$name.o $dir/mutant.o \
    $root/build/$flavour/libstratakv.a {*}$libs -lm 2>@1
}

proc link_fuzz {mutant dir name} {
  global root
  set flavour [flavour_of $mutant]
  set obj $root/build/$flavour/obj/test/fuzz
  exec {*}[flags_of $flavour] -w -o $dir/c/$name $obj/$name.o \
    $obj/fuzz_mutate.o $obj/fuzz_replay.o $dir/mutant.o \
    $root/build/$flavour/libfuzzed.a $root/build/$flavour/libstratakv.a \
    -l:liblz4.a -l:libzstd.a -lsqlite3 -lmicrohttpd -ljansson -lm 2>@1
}

# Whether the target lets its inputs and their mutations pass.
proc run_fuzz {dir name} {
  global root opt fuzz_execs
  set corpus $root/test/fuzz/corpus/[regsub {_fuzz$} $name {}]
  cd $root
  catch {
    exec timeout $opt(-limit) $dir/c/$name -execs $fuzz_execs -seed 1 \
      $corpus 2>@1
  }
}

proc link_rest {mutant dir} {
  global root
  set flavour [flavour_of $mutant]
  set obj $root/build/$flavour/obj
  set own $obj/[file rootname [dict get $mutant file]].o
  set objects {}
  foreach path [glob $obj/engine/*/*.o $obj/ext/sqlite/*.o $obj/test/c/*.o] {
    if {$path eq $own || [string match *_test.o $path]} continue
    lappend objects $path
  }
  exec {*}[flags_of $flavour] -w -shared -o $dir/stratakv.so $dir/mutant.o \
    {*}$objects -Wl,--version-script=$root/build/test.map -l:liblz4.a \
    -l:libzstd.a 2>@1
  foreach {program folder} {stratakvd httpd stratakv-tool tool} {
    set objects [glob -nocomplain $obj/ext/$folder/*.o]
    if {$objects eq {}} continue
    exec {*}[flags_of $flavour] -w -o $dir/$program {*}$objects $dir/mutant.o \
      $root/build/$flavour/libstratakv.a -l:liblz4.a -l:libzstd.a -lmicrohttpd \
      -ljansson 2>@1
  }
}

# In the order of the patterns; but the daemon's, which have little of the engine.
proc tests_matching {globs} {
  global root
  set found {}
  foreach glob $globs {
    if {[string match *_fuzz $glob]} { lappend found $glob }
    foreach path [lsort [glob -nocomplain $root/test/c/*_test.c]] {
      if {![string match $glob [file rootname [file tail $path]]]} continue
      set name [file rootname [file tail $path]]
      if {$name ni [concat $found answer_test jobs_test]} {
        lappend found $name
      }
    }
  }
  return $found
}

# Tests that look at the build under test (not at the release's, or at texts).
proc tcl_tests {} {
  global root
  set names {}
  foreach path [lsort [glob $root/test/*.test]] {
    set name [file rootname [file tail $path]]
    if {$name ni {lint readme real mutants syscalls audit fuzz model}} {
      lappend names $name
    }
  }
  return $names
}

# {verdict by}: caught by a test, does not compile, or survived.
proc judge {mutant dir} {
  global root opt
  if {![build_mutant $mutant $dir]} { return {uncompilable -} }
  set relative [string range $dir [string length $root/] end]
  set done {}
  # As `make test` runs long sweeps there.
  set sample [expr {[flavour_of $mutant] eq "asan" ? "SKV_SAMPLE=4" : ""}]
  foreach stage [stages $mutant] {
    set names {}
    foreach name [tests_matching $stage] {
      if {$name ni $done} { lappend names $name }
    }
    if {$stage eq "*"} { link_rest $mutant $dir; lappend names [tcl_tests] }
    if {$names eq {}} continue
    set flavour [flavour_of $mutant]
    set sanitizer [expr {$flavour eq "test" ? "" : $flavour}]
    foreach name $names {
      lappend done $name
      if {[string match *_fuzz $name]} {
        if {[catch { link_fuzz $mutant $dir $name } message]} {
          return [list broken $message]
        }
        if {[run_fuzz $dir $name]} { return [list caught $name] }
        continue
      }
      if {[llength $name] == 1 && [catch {
        link_c $mutant $dir $name
      } message]} {
        return [list broken $message]
      }
      set code [catch { exec env SKV_MUTANT=1 {*}$sample \
        [info nameofexecutable] \
        $root/test/run.tcl -build $relative -match $name -jobs 1 \
        -limit $opt(-limit) -sanitizer $sanitizer 2>@1 } output]
      if {$code} {
        # A test that hangs is a catch, but so is a slow machine: say which.
        set late [expr {[regexp {time limit} $output] ? " (time limit)" : ""}]
        if {[llength $name] == 1} { return [list caught $name$late] }
        set files {}
        foreach {- file} [regexp -all -inline {(?n)^(\w+) .*FAILED} $output] {
          lappend files $file
        }
        return [list caught [join $files ,]$late]
      }
    }
  }
  return {survived -}
}

# ---- Running ---------------------------------------------------------------------

# name -> reason
proc read_equivalent {} {
  global root
  set list [dict create]
  foreach line [split [read_file $root/test/mutants/equivalent.txt] \n] {
    if {$line eq {} || [string match #* $line]} continue
    set tab [string first \t $line]
    dict set list [string range $line 0 $tab-1] [string range $line $tab+1 end]
  }
  return $list
}

proc read_done {} {
  global opt
  set done [dict create]
  if {$opt(-out) eq {} || ![file exists $opt(-out)]} { return $done }
  foreach line [split [string trim [read_file $opt(-out)]] \n] {
    dict set done [lindex [split $line \t] 0] 1
  }
  return $done
}

proc report {name verdict by seconds} {
  global opt tally
  incr tally($verdict)
  regsub -all {\s+} $by { } by
  set line [join [list $name $verdict $by [format %.1f $seconds]] \t]
  puts $line
  flush stdout
  if {$opt(-out) ne {}} {
    set f [open $opt(-out) a]
    puts $f $line
    close $f
  }
}

# One mutant in a process of its own, so that several run at a time.
if {[info exists env(SKV_MUTANT_ONE)]} {
  set mutant $env(SKV_MUTANT_ONE)
  puts [judge $mutant $env(SKV_MUTANT_DIR)]
  exit 0
}

find_all
set equivalent [read_equivalent]
set done [read_done]
array set tally {caught 0 survived 0 uncompilable 0 equivalent 0 broken 0}
if {$opt(-list)} {
  foreach m $mutants {
    puts "[dict get $m name]\tline [dict get $m line]\t[string range [regsub -all \
      {\s+} [dict get $m with] { }] 0 70]"
  }
  puts "[llength $mutants] mutants"
  exit 0
}

# A line of the list that names nothing excuses nothing.
set names {}
foreach m $mutants { dict set names [dict get $m name] 1 }
if {$opt(-kind) eq "*" && $opt(-match) eq "*"} {
  foreach name [dict keys $equivalent] {
    if {![dict exists $names $name]} { report $name broken "no such mutant" 0 }
  }
}

set queue {}
foreach m $mutants {
  set name [dict get $m name]
  if {[dict exists $done $name]} continue
  if {!$opt(-all) && [dict exists $equivalent $name]} {
    report $name equivalent [dict get $equivalent $name] 0
    continue
  }
  lappend queue $m
}
puts "[llength $mutants] mutants, [llength $queue] to run"

array set running {}   ;# channel -> {mutant dir start}
set free {}
for {set i 0} {$i < $opt(-jobs)} {incr i} {
  lappend free $root/build/mutants/[pid].$i
}
while {[llength $queue] || [array size running]} {
  while {[llength $queue] && [llength $free]} {
    set queue [lassign $queue m]
    set free [lassign $free dir]
    set env(SKV_MUTANT_ONE) $m
    set env(SKV_MUTANT_DIR) $dir
    set arguments {}
    foreach name {-limit -jobs -stages -tests} { lappend arguments $name $opt($name) }
    set h [open "|[list [info nameofexecutable] [info script] {*}$arguments] \
      2>@1" r]
    fconfigure $h -blocking 0
    set running($h) [list $m $dir [clock milliseconds]]
    set text($h) {}
  }
  foreach h [array names running] {
    append text($h) [read $h]
    if {![eof $h]} continue
    lassign $running($h) m dir start
    unset running($h)
    catch { close $h }
    set answer [lindex [split [string trim $text($h)] \n] end]
    if {[lindex $answer 0] ni {caught survived uncompilable broken}} {
      set answer [list broken $text($h)]
    }
    unset text($h)
    report [dict get $m name] {*}[lrange $answer 0 1] \
      [expr {([clock milliseconds] - $start) / 1000.0}]
    file delete -force $dir
    lappend free $dir
  }
  after 20
}

puts "$tally(caught) caught, $tally(survived) survived, $tally(equivalent)\
  equivalent, $tally(uncompilable) do not compile, $tally(broken) broken"
exit [expr {$tally(survived) + $tally(broken) + $lost > 0}]
