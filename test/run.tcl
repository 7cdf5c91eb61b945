# run.tcl --
#
# Runs test/*.test and the C unit tests of a build, each in a process group of
# its own with a time limit, several at a time, and ends with the line
#
#   N passed, N failed
#
#   tclsh test/run.tcl ?-build dir? ?-match globs? ?-perm name? ?-seed n?
#                      ?-jobs n? ?-sanitizer asan|tsan? ?-limit seconds?
#                      ?-counts file? ?-floors file? ?-soak seconds?
#
# A line "!count NAME N" of a test says how much of something it did. They are
# summed by name, over several runs if a file keeps them (-counts). With -floors
# the sums are printed beside the least that they must be (test/floors.tsv), and
# one below it is a failure.
#
# A file's header comment may say `Timeout: seconds` (default 120) and
# `Alone: reason` (it measures, so nothing runs beside it). A C test is a
# program NAME_test that exits 0 with a last line `N checks`.
#
# Without a sanitizer, memory that is freed is filled, so that using it does not
# go well by luck; a header that says `Unfilled: reason` is spared that.
#
# With -soak only the tests whose header says `Soak: weight` run, each for its
# share of that time, from new seeds (SKV_SOAK_S in their environment).
#
# Exit status: 0 if nothing failed, every file ran a case, and a file ran.

package require Tcl 8.6

set root [file dirname [file dirname [file normalize [info script]]]]
array set opt {
  -build build/test -match * -perm default -seed {} -jobs {} -sanitizer {}
  -limit 120 -counts {} -floors {} -soak {}
}
foreach {name value} $argv {
  if {![info exists opt($name)]} { puts stderr "unknown option $name"; exit 2 }
  set opt($name) $value
}
if {$opt(-seed) eq {}} { set opt(-seed) 1 }
if {$opt(-perm) eq {}} { set opt(-perm) default }
if {$opt(-jobs) eq {}} {
  if {[catch { exec nproc } opt(-jobs)]} { set opt(-jobs) 2 }
}
if {![regexp {^[1-9]\d*$} $opt(-jobs)]} { set opt(-jobs) 2 }
set build [file join $root $opt(-build)]

set env(LC_ALL) C.UTF-8 ;# what tests pass to programs is UTF-8 everywhere
set env(SKV_BUILD) $build
set env(SKV_RELEASE) [file join $root build]
set env(SKV_PERM) $opt(-perm)
set env(SKV_SEED) $opt(-seed)
set env(SKV_SANITIZER) $opt(-sanitizer)

# ---- What there is to run --------------------------------------------------------

# What a header comment says after `# word:`, or the default.
proc header_says {path word default} {
  set f [open $path]
  set head [read $f 3000]
  close $f
  if {[regexp -line "^\[# *\]+$word:\\s*(.*)$" $head -> value]} { return $value }
  return $default
}

# The list of jobs: dicts of name, kind, command, limit, alone, unfilled.
proc find_jobs {} {
  global root build opt
  set jobs {}
  foreach path [lsort [glob -nocomplain -directory $root/test/c *_test.c]] {
    set name [file rootname [file tail $path]]
    lappend jobs [dict create name $name kind c \
      command [list $build/c/$name] \
      limit [header_says $path Timeout $opt(-limit)] \
      alone [header_says $path Alone {}] \
      unfilled [header_says $path Unfilled {}]]
  }
  foreach path [lsort [glob -nocomplain -directory $root/test *.test]] {
    lappend jobs [dict create name [file rootname [file tail $path]] kind tcl \
      command [list [info nameofexecutable] $path] \
      limit [header_says $path Timeout $opt(-limit)] \
      alone [header_says $path Alone {}] \
      unfilled [header_says $path Unfilled {}]]
  }
  set wanted {}
  foreach job $jobs {
    foreach glob [split $opt(-match)] {
      set name [dict get $job name]
      if {$glob ne {} && ([string match $glob $name] ||
          [string match $glob.test $name.test])} {
        lappend wanted $job
        break
      }
    }
  }
  return $wanted
}

# Of these jobs the ones that can soak, each with its seconds.
proc soak_jobs {jobs} {
  global root opt
  set sum 0
  set weights {}
  foreach job $jobs {
    set folder [expr {[dict get $job kind] eq {c} ? "test/c" : "test"}]
    set ending [expr {[dict get $job kind] eq {c} ? ".c" : ".test"}]
    set weight [header_says $root/$folder/[dict get $job name]$ending Soak 0]
    lappend weights $weight
    set sum [expr {$sum + $weight}]
  }
  set chosen {}
  foreach job $jobs weight $weights {
    if {$weight <= 0} continue
    set share [expr {double($opt(-soak)) * $opt(-jobs) * $weight / $sum}]
    if {$share > $opt(-soak)} { set share $opt(-soak) }
    dict set job soak [expr {int($share)}]
    dict set job limit [expr {int($share) + 300}]
    dict set job alone {}
    lappend chosen $job
  }
  return $chosen
}

# ---- Sanitizers ------------------------------------------------------------------

# tclsh, sqlite3 and curl are ordinary programs that load sanitized code, so
# the sanitizer's library comes first. tclsh itself leaks at exit; the daemon
# and the C tests are asked about leaks.
proc prepare_sanitizer {} {
  global opt env
  if {$opt(-sanitizer) eq {}} return
  set cc [expr {[info exists env(CC)] && $env(CC) ne {} ? $env(CC) : "gcc"}]
  if {[string match *clang* $cc]} {
    set name libclang_rt.$opt(-sanitizer)-x86_64.so
  } else {
    set name lib$opt(-sanitizer).so
  }
  set path [exec {*}$cc -print-file-name=$name]
  if {![file exists $path]} {
    puts stderr "$cc has no $name (with clang: package libclang-rt-14-dev)"
    exit 2
  }
  set env(SKV_PRELOAD) [file normalize $path]
  set env(ASAN_OPTIONS) detect_leaks=0:abort_on_error=0:exitcode=86
  set env(UBSAN_OPTIONS) print_stacktrace=1:halt_on_error=1
  # Of a planted bug (test/mutants) the first report says all.
  set env(TSAN_OPTIONS) halt_on_error=[info exists \
    env(SKV_MUTANT)]:exitcode=66:report_signal_unsafe=0
}

# The command with its environment: preload for Tcl, leaks for C.
proc with_environment {job} {
  global env opt
  set command [dict get $job command]
  if {[dict exists $job soak]} {
    set command [list env SKV_SOAK_S=[dict get $job soak] {*}$command]
  }
  if {$opt(-sanitizer) eq {}} {
    set fill [expr {[dict get $job unfilled] eq {} ? 165 : 0}]
    return [list setsid env MALLOC_PERTURB_=$fill {*}$command]
  }
  # ThreadSanitizer needs the address space where it expects it.
  set aslr [expr {$opt(-sanitizer) eq {tsan} ? {setarch -R} : {}}]
  if {[dict get $job kind] eq {c}} {
    return [list setsid env ASAN_OPTIONS=detect_leaks=1:exitcode=86 \
      {*}$aslr {*}$command]
  }
  list setsid {*}$aslr env LD_PRELOAD=$env(SKV_PRELOAD) {*}$command
}

# ---- Running ---------------------------------------------------------------------

set total(passed) 0
set total(failed) 0
set total(skipped) 0
set skip_lines {}
array set counts {}
set running {}   ;# channel -> job

proc start_job {job} {
  global running output opt root env
  # What a run that was killed left behind; a C test works below build/tmp too.
  file delete -force {*}[glob -nocomplain -directory $root/build/tmp \
    [dict get $job name] [dict get $job name].*]
  set h [open "|[with_environment $job] </dev/null 2>@1" r]
  fconfigure $h -blocking 0 -translation lf -encoding utf-8
  set output($h) {}
  set limit [dict get $job limit]
  if {$opt(-sanitizer) ne {}} { set limit [expr {$limit * 5}] }
  if {[info exists env(SKV_MUTANT)]} { set limit [expr {min($limit, 240)}] }
  dict set job started [clock milliseconds]
  dict set job deadline [expr {[clock milliseconds] + 1000 * $limit}]
  dict set running $h $job
}

# Has the process itself ended (whatever still holds its pipe)?
proc has_ended {h} {
  set id [lindex [pid $h] 0]
  if {[catch { open /proc/$id/stat } f]} { return 1 }
  set stat [read $f]
  close $f
  regexp {\) Z } $stat
}

# End every process of the job's group that is still there.
proc kill_group {h} {
  catch { exec kill -s KILL -- -[lindex [pid $h] 0] 2>/dev/null }
}

# Read what is there; when the job is over or late, finish it.
proc poll_job {h} {
  global running output
  append output($h) [read $h]
  set job [dict get $running $h]
  set late [expr {[clock milliseconds] > [dict get $job deadline]}]
  if {![eof $h] && !$late && ![has_ended $h]} return
  kill_group $h
  if {!$late} { append output($h) [read $h] }
  fconfigure $h -blocking 1
  set code 0
  if {[catch { close $h } message options]} {
    set error [dict get $options -errorcode]
    set code [expr {[lindex $error 0] in {CHILDSTATUS CHILDKILLED} ?
      [lindex $error 2] : 0}]
  }
  if {$late} { set code "time limit" }
  set text $output($h)
  unset output($h)
  dict unset running $h
  report_job $job $code $text
}

# Count a job's cases, print its failures and how to repeat them.
proc report_job {job code text} {
  global total skip_lines
  lassign [count_cases $job $code $text] passed failed skipped why
  incr total(passed) $passed
  incr total(failed) $failed
  incr total(skipped) $skipped
  add_count [expr {[dict get $job kind] eq {c} ? "c-checks" : "tcl-cases"}] \
    $passed
  set seconds [expr {([clock milliseconds] - [dict get $job started]) / 1000.0}]
  puts [format "%-24s %5d passed %s%s %6.1f s" [dict get $job name] $passed \
    [expr {$failed ? "$failed FAILED" : ""}] \
    [expr {$skipped ? "$skipped skipped" : ""}] $seconds]
  foreach line [split $text \n] {
    if {[regexp {^- (.*)} $line -> what]} { lappend skip_lines $what }
    if {[regexp {^!count (\S+) (\d+)$} $line -> what n]} { add_count $what $n }
  }
  if {$failed} {
    puts [shortened $text]
    if {$why ne {}} { puts "! [dict get $job name]: $why" }
    puts "  repeat: [repeat_line [dict get $job name]]\n"
  }
  flush stdout
}

# A failing file's output, without the middle of a flood.
proc shortened {text} {
  set lines [split [string trimright $text] \n]
  if {[llength $lines] <= 120} { return [join $lines \n] }
  join [concat [lrange $lines 0 59] [list "... [expr {[llength $lines] - 120}]\
    lines ..."] [lrange $lines end-59 end]] \n
}

# passed, failed, skipped, and what is wrong with the file as a whole
proc count_cases {job code text} {
  if {[dict get $job kind] eq {c}} {
    if {$code eq 0 && [regexp {(\d+) checks?\s*$} $text -> n] && $n > 0} {
      return [list $n 0 0 {}]
    }
    return [list 0 1 0 [expr {$code eq 0 ? "it printed no number of checks" \
      : "it ended with $code"}]]
  }
  if {![regexp {\n?!result (\d+) (\d+) (\d+)\s*$} $text -> p f s]} {
    return [list 0 1 0 "it ended with $code and printed no result"]
  }
  if {$p + $f + $s == 0} { return [list 0 1 0 "it ran no case"] }
  if {$f == 0 && $code ne 0} {
    return [list $p 1 $s "it ended with $code"]
  }
  list $p $f $s {}
}

proc repeat_line {name} {
  global opt
  set line "make [expr {$opt(-sanitizer) eq {} ? {test} : $opt(-sanitizer)}]"
  append line " MATCH='$name' SEED=$opt(-seed)"
  if {$opt(-perm) ne {default}} { append line " PERM=$opt(-perm)" }
  return $line
}

proc run_all {jobs at_once} {
  global running
  while {[llength $jobs] || [dict size $running]} {
    while {[llength $jobs] && [dict size $running] < $at_once} {
      set jobs [lassign $jobs job]
      start_job $job
    }
    foreach h [dict keys $running] { poll_job $h }
    after 10
  }
}

# ---- Counts ----------------------------------------------------------------------

proc add_count {name n} {
  global counts
  if {![info exists counts($name)]} { set counts($name) 0 }
  incr counts($name) $n
}

proc read_lines {path} {
  if {![file exists $path]} return
  set f [open $path]
  set text [read $f]
  close $f
  split [string trim $text] \n
}

# Add the sums of earlier runs, and keep all for later ones.
proc keep_counts {path} {
  global counts
  foreach line [read_lines $path] { add_count {*}[split $line \t] }
  set f [open $path w]
  foreach name [lsort [array names counts]] { puts $f $name\t$counts($name) }
  close $f
}

# Print the table; what is below its floor fails.
proc check_floors {path} {
  global counts total
  puts [format "\n%-28s %12s %12s" count done floor]
  foreach line [read_lines $path] {
    if {[string match #* $line]} continue
    lassign [split $line \t] name floor
    set done [expr {[info exists counts($name)] ? $counts($name) : 0}]
    set low [expr {$done < $floor}]
    puts [format "%-28s %12s %12s%s" $name $done $floor \
      [expr {$low ? "  BELOW ITS FLOOR" : ""}]]
    incr total([expr {$low ? "failed" : "passed"}])
  }
  puts {}
}

prepare_sanitizer
set jobs [find_jobs]
if {$opt(-soak) ne {}} { set jobs [soak_jobs $jobs] }
puts "seed $opt(-seed), permutation $opt(-perm), build $opt(-build)"
if {![llength $jobs]} {
  puts "no test matches $opt(-match)"
  puts "0 passed, 1 failed"
  exit 1
}
# Long ones first, so that the end is not one file on one core.
proc by_limit {a b} {
  expr {[dict get $b limit] - [dict get $a limit]}
}
set together {}
set alone {}
foreach job $jobs {
  if {[dict get $job alone] eq {}} { lappend together $job } \
    else { lappend alone $job }
}
run_all [lsort -command by_limit $together] $opt(-jobs)
run_all $alone 1

foreach line $skip_lines { puts "skipped: $line" }
if {$opt(-counts) ne {}} { keep_counts [file join $root $opt(-counts)] }
if {$opt(-floors) ne {}} { check_floors [file join $root $opt(-floors)] }
puts "$total(passed) passed, $total(failed) failed"
exit [expr {$total(failed) > 0}]
