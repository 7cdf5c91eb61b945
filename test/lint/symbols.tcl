# symbols.tcl --
#
# What the shared objects show: the extension its two entry points, the library
# stratakv_* only. The engine's names: what is seen across files begins with
# skv_ or stratakv_, static names are unique across the engine.

source [file join [file dirname [info script]] lib common.tcl]

proc exported {so} {
  set names {}
  foreach line [split [exec nm -D --defined-only $so] \n] {
    lappend names [regsub {@.*} [lindex $line end] {}]
  }
  return $names
}

set checked 0
set entry {sqlite3_stratakv_init stratakv_allow_root}
set names [exported build/stratakv.so]
foreach name $names {
  incr checked
  if {$name ni $entry} { finding build/stratakv.so "exports $name" }
}
foreach name $entry {
  if {$name ni $names} { finding build/stratakv.so "does not export $name" }
}
foreach name [exported build/libstratakv.so] {
  incr checked
  if {![string match stratakv_* $name]} {
    finding build/libstratakv.so "exports $name"
  }
}

set statics {}
foreach object [files build/obj/engine/*/*.o] {
  set path [regsub {^build/obj/(.*)\.o$} $object {\1.c}]
  if {![file exists $path]} continue
  foreach line [split [exec nm --defined-only $object] \n] {
    lassign $line - type name
    if {$type in {T D B R} && ![regexp {^(skv|stratakv)_} $name]} {
      finding $path "$name is seen across files without skv_"
    }
    if {$type ne {t}} continue
    regsub {\.(part|constprop|isra|cold|lto_priv|localalias).*} $name {} name
    if {[regexp {^(XXH|_|LZ4|ZSTD)} $name]} continue
    incr checked
    dict lappend statics $name $path
  }
}
dict for {name paths} $statics {
  set paths [lsort -unique $paths]
  # Static inline functions of a header are compiled into several files.
  if {[llength $paths] > 1 && ![string match skv_* $name]} {
    finding [lindex $paths 0] "static $name also stands in [lrange $paths 1 end]"
  }
}
lint_end $checked symbols
