# large.tcl --
#
# What `make bench-large` runs: 5,000,000 rows of 16 + 100 bytes through SQL, by
# one INSERT ... SELECT in one transaction, and again in transactions of 1,000.
#
#   tclsh test/bench/large.tcl ?-rows 5000000? ?-memory 32M? ?-keep 0?
#
# Prints the peak of anonymous resident memory (RssAnon of /proc/PID/status,
# sampled every 20 ms) beside the budget, disk space when settled beside the
# live data, and reads all rows back: in order both ways, and by key. The rows
# come in scrambled order. Ends with status 1 if a row is wrong, or a bound of
# memory (budget + 32 MiB) or disk (2 x live data + logs) is passed.

set env(SKV_BUILD) [file join [file dirname [file dirname [file dirname \
  [file normalize [info script]]]]] build]
set argv0 large
source [file join [file dirname [file dirname [file normalize [info script]]]] \
  tester.tcl]
array set opt {-rows 5000000 -memory 32M -keep 0}
array set opt $argv

regexp {^(\d+)M$} $opt(-memory) -> budget_mib
set rows $opt(-rows)
set live_mib [expr {$rows * 116.0 / 1048576}]
set bad 0

# Rows 0..n-1 in an order that jumps about: a multiplication modulo n.
set multiplier 2718281
while {$rows % $multiplier == 0} { incr multiplier 2 }
proc source_sql {from count} {
  set n $::rows
  return "WITH RECURSIVE c(i) AS (SELECT $from UNION ALL SELECT i + 1 FROM c
    WHERE i + 1 < [expr {$from + $count}])
    SELECT printf('%016d', i * $::multiplier % $n),
           hex(randomblob(42)) || printf('%016d', i * $::multiplier % $n)
    FROM c"
}

proc rss_anon {pid} {
  if {[catch { file_bytes /proc/$pid/status } text]} { return 0 }
  if {[regexp {RssAnon:\s+(\d+) kB} $text -> kib]} { return $kib }
  return 0
}

# Run a script in a helper while sampling its memory: result, seconds, peak MiB.
proc sampled {h script} {
  set start [clock milliseconds]
  set peak 0
  ask_start $h $script
  while {![regexp {(?n)^=\d .*\n} [proc_output $h]]} {
    set kib [rss_anon [proc_pid $h]]
    if {$kib > $peak} { set peak $kib }
    if {[eof $h]} { error "the process died: [proc_output $h]" }
    after 20
  }
  list [ask_end $h] [expr {([clock milliseconds] - $start) / 1000.0}] \
    [expr {$peak / 1024.0}]
}

proc disk_mib {store} {
  expr {[lindex [exec du -sk $store] 0] / 1024.0}
}

proc logs_mib {store} {
  set bytes 0
  foreach path [glob -nocomplain -directory $store *.wal] {
    incr bytes [file size $path]
  }
  expr {$bytes / 1048576.0}
}

proc must {what ok} {
  if {!$ok} { puts "  WRONG: $what"; set ::bad 1 }
}

# Wait until the store's size stops changing: three seconds alike.
proc settle {store} {
  set before -1
  set alike 0
  for {set i 0} {$i < 300 && $alike < 3} {incr i} {
    after 1000
    set now [disk_mib $store]
    set alike [expr {$now == $before ? $alike + 1 : 0}]
    set before $now
  }
}

# Reads everything back; prints how long each way took.
set check_script {
  set wrong 0
  set n 0
  db eval { SELECT key, value FROM kv ORDER BY key } {
    if {[scan $key %d] != $n || [string range $value 84 end] ne $key ||
        [string length $value] != 100} { incr wrong }
    incr n
  }
  if {$n != ROWS} { incr wrong }
  db eval { SELECT key FROM kv ORDER BY key DESC } {
    incr n -1
    if {[scan $key %d] != $n} { incr wrong }
  }
  if {$n != 0} { incr wrong }
  set found [db one {
    WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c
                            WHERE i + 1 < ROWS)
    SELECT count(*) FROM c CROSS JOIN kv
    WHERE kv.key = printf('%016d', c.i) AND substr(kv.value, 85) = kv.key
  }]
  if {$found != ROWS} { incr wrong }
  set wrong
}

proc load_and_check {name script} {
  set store [file join [test_dir] $name.strata]
  set h [spawn_tcl]
  ask $h "db eval { CREATE VIRTUAL TABLE temp.kv USING stratakv('$store',\
    memory='$::opt(-memory)') }"
  set base [expr {[rss_anon [proc_pid $h]] / 1024.0}]
  lassign [sampled $h $script] result seconds peak
  puts [format "%s: %d rows in %.1f s (%.0f rows/s)" $name $::rows $seconds \
    [expr {$::rows / $seconds}]]
  puts [format "  RssAnon: %.1f MiB before, peak %.1f MiB; budget %d + 32 MiB" \
    $base $peak $::budget_mib]
  must "memory" [expr {$peak <= $::budget_mib + 32}]
  settle $store
  set logs [logs_mib $store]
  puts [format "  disk: %.0f MiB, of it %.0f MiB logs; live data %.0f MiB" \
    [disk_mib $store] $logs $::live_mib]
  must "disk" [expr {[disk_mib $store] <= 2 * $::live_mib + $logs}]
  lassign [sampled $h [string map [list ROWS $::rows] $::check_script]] \
    wrong seconds peak
  puts [format "  read back in order, in reverse and by key: %d wrong, %.1f s,\
    peak RssAnon %.1f MiB" $wrong $seconds $peak]
  must "rows" [expr {$wrong == 0}]
  must "memory while reading" [expr {$peak <= $::budget_mib + 32}]
  close $h
  unset -nocomplain ::process_output($h)
  if {!$::opt(-keep)} { file delete -force $store }
}

load_and_check one-transaction \
  "db eval { INSERT INTO kv [source_sql 0 $rows] }"
load_and_check transactions-of-1000 "
  for {set from 0} {\$from < $rows} {incr from 1000} {
    db eval \[string map \[list @from \$from @to \[expr {\$from + 1000}\]\] {
      INSERT INTO kv WITH RECURSIVE c(i) AS (SELECT @from UNION ALL
        SELECT i + 1 FROM c WHERE i + 1 < @to)
      SELECT printf('%016d', i * $multiplier % $rows),
        hex(randomblob(42)) || printf('%016d', i * $multiplier % $rows) FROM c
    }\]
  }"
cd $test_root
if {!$opt(-keep)} { file delete -force [test_dir] }
exit $bad
