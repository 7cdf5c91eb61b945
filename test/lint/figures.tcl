# figures.tcl --
#
# How long functions and files are: a crude count (a function ends at a } in
# column 0 and began at the { before it). It informs and never fails.

source [file join [file dirname [info script]] lib common.tcl]

# Lengths of a file's functions: a list of {lines name}.
proc function_lengths {path} {
  set found {}
  set start 0
  set number 0
  set name {}
  foreach line [split [read_text $path] \n] {
    incr number
    if {[regexp {^[a-z].*?(\w+)\(} $line -> word] &&
        ![regexp {^(struct|enum|typedef|#)} $line]} {
      set name $word
      set start $number
    }
    if {$line eq "\}" && $start} {
      lappend found [list [expr {$number - $start + 1}] $name]
      set start 0
    }
  }
  return $found
}

proc percentile {sorted p} {
  lindex $sorted [expr {int(([llength $sorted] - 1) * $p)}]
}

set lengths {}
set lines 0
set paths [files engine/*/*.c ext/*/*.c]
foreach path $paths {
  foreach f [function_lengths $path] {
    lappend lengths [lindex $f 0]
    if {[lindex $f 0] > 60} {
      puts "  [lindex $f 0] lines: [lindex $f 1] in $path"
    }
  }
  set n [llength [split [read_text $path] \n]]
  incr lines $n
  if {$n > 900} { puts "  $n lines: $path" }
}
set lengths [lsort -integer $lengths]
if {[llength $lengths]} {
  set over [llength [lsearch -all -inline -not -regexp $lengths {^(\d\d?|100)$}]]
  puts [format "lint figures: %d files, %d lines, %d functions; median %d\
    (aim 15), p90 %d (aim 50), over 100: %d" [llength $paths] $lines \
    [llength $lengths] [percentile $lengths 0.5] [percentile $lengths 0.9] $over]
}
exit 0
