# bench.tcl --
#
# What `make bench` runs: the workloads of bench.c on each engine, each engine
# in a process of its own, round by round, with the machine's raw limits in each
# round; then the medians as TSV and as a Markdown table.
#
#   tclsh test/bench/bench.tcl ?-n 1000000? ?-rounds 3? ?-engines {a b}?
#                              ?-only fillseq,readrandom? ?-dir build/bench/data?
#
# It asserts no speed. Results: build/bench/result.tsv, build/bench/result.md.

package require Tcl 8.6
cd [file dirname [file dirname [file dirname [file normalize [info script]]]]]

array set opt {
  -n 1000000 -rounds 3 -engines {stratakv rocksdb lmdb sqlite}
  -only {} -syncs 10000 -dir build/bench/data
}
foreach {name value} $argv {
  if {![info exists opt($name)]} { puts stderr "unknown option $name"; exit 2 }
  set opt($name) $value
}

# workload -> list of rates, by engine; texts that engines say of themselves
set rates {}
set about {}
set disk {}

proc run_engine {engine} {
  global opt rates about disk
  set command [list build/bench/bench-$engine --dir=$opt(-dir) --n=$opt(-n) \
    --syncs=$opt(-syncs)]
  if {$opt(-only) ne {}} { lappend command --only=$opt(-only) }
  foreach line [split [exec {*}$command 2>@stderr] \n] {
    set fields [split $line \t]
    switch -- [lindex $fields 0] {
      \#engine { dict set about $engine [lindex $fields 2] }
      \#disk { dict set disk $engine [lindex $fields 1] }
      default { keep_rate $engine $fields }
    }
  }
}

proc keep_rate {engine fields} {
  global rates
  lassign $fields workload ops seconds rate
  if {$workload eq {settle}} { set rate $seconds }
  set list {}
  if {[dict exists $rates $workload $engine]} {
    set list [dict get $rates $workload $engine]
  }
  dict set rates $workload $engine [lappend list $rate]
}

proc median {list} {
  set sorted [lsort -real $list]
  lindex $sorted [expr {([llength $sorted] - 1) / 2}]
}

proc rate_of {workload engine} {
  global rates
  if {![dict exists $rates $workload $engine]} { return {} }
  median [dict get $rates $workload $engine]
}

proc kilo {rate} {
  if {$rate eq {}} { return - }
  format [expr {$rate < 100000 ? "%.1f" : "%.0f"}] [expr {$rate / 1000.0}]
}

proc ratio {a b} {
  if {$a eq {} || $b eq {} || $b == 0} { return - }
  format "%.2f" [expr {double($a) / $b}]
}

# ---- The runs ----------------------------------------------------------------------

proc run_raw {args} {
  global opt
  foreach line [split [exec build/bench/raw --dir=$opt(-dir) {*}$args] \n] {
    keep_rate raw [split $line \t]
  }
}

for {set round 1} {$round <= $opt(-rounds)} {incr round} {
  puts stderr "round $round of $opt(-rounds): raw limits"
  run_raw
  foreach engine $opt(-engines) {
    puts stderr "round $round of $opt(-rounds): $engine"
    # A disk's rate drifts by the minute: measured beside each engine.
    run_raw --only-syncs=1
    run_engine $engine
  }
}

# ---- TSV ---------------------------------------------------------------------------

set f [open build/bench/result.tsv w]
puts $f "workload\tengine\tmedian\truns"
dict for {workload engines} $rates {
  dict for {engine list} $engines {
    puts $f "$workload\t$engine\t[median $list]\t$list"
  }
}
close $f

# ---- Markdown ----------------------------------------------------------------------

set out {}
proc say {line} { global out; append out $line\n }

proc cpu_name {} {
  set f [open /proc/cpuinfo]
  set text [read $f]
  close $f
  if {[regexp -line {^model name\s*:\s*(.*)$} $text -> name]} { return $name }
  return unknown
}

say "$opt(-n) entries of 16 + 100 bytes, values compress to half; thousands of\
  operations per second, median of $opt(-rounds) interleaved runs, each engine\
  in its own process, every value checked."
say ""
say "Machine: [cpu_name], [exec nproc] cores, Linux [exec uname -r]."
say ""
set raw [rate_of overwrite128+fdatasync raw]
say "Raw limits in the same run: overwrite of 128 B + fdatasync\
  [format %.0f $raw]/s; pwrite of 128 B [kilo [rate_of pwrite128 raw]] K/s;\
  memcpy of 128 B into a mapped file [kilo [rate_of memcpy128 raw]] K/s; memcpy\
  [format %.1f [expr {[rate_of memcpy raw] / 1024}]] GiB/s; sequential write\
  [format %.0f [rate_of write raw]] MiB/s."
say ""

set peers [lsearch -all -inline -not $opt(-engines) stratakv]
set head "| workload | stratakv |"
set rule "|---|--:|"
foreach peer $peers { append head " $peer |"; append rule "--:|" }
foreach peer $peers { append head " / $peer |"; append rule "--:|" }
say "$head / raw sync |"
say "$rule--:|"
foreach workload {fillseq fillrandom fillsync1 fillsync8 readrandom readmissing
                  readseq seekrandom} {
  if {![dict exists $rates $workload]} continue
  set ours [rate_of $workload stratakv]
  set line "| $workload | [kilo $ours] |"
  foreach peer $peers { append line " [kilo [rate_of $workload $peer]] |" }
  foreach peer $peers {
    append line " [ratio $ours [rate_of $workload $peer]] |"
  }
  set is_sync [string match fillsync* $workload]
  say "$line [expr {$is_sync ? [ratio $ours $raw] : {}}] |"
}
if {[dict exists $rates settle]} {
  set line "| settle, s |"
  foreach engine [concat stratakv $peers] {
    set s [rate_of settle $engine]
    append line [expr {$s eq {} ? " - |" : [format " %.2f |" $s]}]
  }
  say "$line[string repeat { |} [expr {[llength $peers] + 1}]]"
  set line "| disk after fillrandom, MiB |"
  foreach engine [concat stratakv $peers] {
    append line [expr {[dict exists $disk $engine] ?
      [format " %.0f |" [expr {[dict get $disk $engine] / 1048576.0}]] : " - |"}]
  }
  say "$line[string repeat { |} [expr {[llength $peers] + 1}]]"
}
say ""
foreach engine $opt(-engines) {
  if {[dict exists $about $engine]} {
    say "* $engine: [dict get $about $engine]"
  }
}
say ""
say "Unsynced puts survive the death of the process in each of them.\
  Synced ones are an fdatasync or\
  fsync per commit or group of commits. Reads follow fillrandom and settling,\
  caches as warm as that leaves them. A fill beside Debian's RocksDB counts\
  after division by 1.7: its release build fills that much faster."

set f [open build/bench/result.md w]
puts -nonewline $f $out
close $f
puts $out
