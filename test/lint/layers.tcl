# layers.tcl --
#
# Who may include and call what:
#
#   util <- os <- store <- {wal | seg} <- mem <- tree <- db <- ext
#
# A file includes its own folder and those to the left; ext/ includes of the
# engine include/stratakv.h only; the engine includes no SQLite header. What
# the engine's objects ask of the C library is compared with a list: system
# calls and threads belong to engine/os, malloc and free to engine/util/alloc.c.

source [file join [file dirname [info script]] lib common.tcl]

set rank {util 1 os 2 store 3 wal 4 seg 4 mem 5 tree 6 db 7}

# ---- Includes --------------------------------------------------------------------

proc check_include {path header} {
  global rank
  set from [split $path /]
  if {[regexp {^<?(sqlite3|sqlite3ext)\.h} $header]} {
    if {[lindex $from 0] eq {engine}} {
      finding $path "the engine does not include $header"
    }
    return
  }
  if {![regexp {^engine/([a-z]+)/} $header -> layer]} return
  if {[lindex $from 0] ne {engine}} {
    finding $path "includes $header; outside the engine it is stratakv.h only"
    return
  }
  set own [lindex $from 1]
  if {![dict exists $rank $layer]} {
    finding $path "includes $header, which is of no layer"
  } elseif {$layer ne $own &&
            [dict get $rank $layer] >= [dict get $rank $own]} {
    finding $path "is in $own and includes $header"
  }
}

set checked 0
foreach path [c_files] {
  incr checked
  foreach {- header} [regexp -all -inline -line \
      {^\s*#\s*include\s+["<]([^">]+)[">]} [read_text $path]] {
    check_include $path $header
  }
}

# ---- Calls -----------------------------------------------------------------------

# Pure functions of the C library and the compiler's own: for every layer.
set pure {
  mem* bcmp __mem* str* __str* snprintf vsnprintf __snprintf_chk __vsnprintf_chk
  qsort bsearch abs labs __stack_chk_fail __assert_fail abort
  __isoc99_sscanf log log2 exp pow sqrt ceil floor fmod isalnum
  __ctype_* tolower toupper __errno_location _GLOBAL_OFFSET_TABLE_
  __tls_get_addr __popcountdi2 __mulodi4 __udivti3 __cpu_model
}
set ours { skv_* stratakv_* LZ4_* ZSTD_* XXH* }
set memory { malloc calloc realloc free aligned_alloc posix_memalign mmap munmap
  madvise sysconf getpagesize }

proc matches {name patterns} {
  foreach p $patterns { if {[string match $p $name]} { return 1 } }
  return 0
}

proc check_calls {object} {
  global pure ours memory
  set path [regsub {^build/obj/(.*)\.o$} $object {\1.c}]
  if {![file exists $path]} return  ;# left by a file that is gone
  foreach {- name} [regexp -all -inline -line {^\s+U (\S+)$} \
      [exec nm -u $object]] {
    regsub {@.*} $name {} name
    if {[matches $name $ours] || [matches $name $pure]} continue
    if {$path eq {engine/util/alloc.c} && [matches $name $memory]} continue
    if {[string match engine/os/* $path] && ![matches $name {
        malloc calloc realloc free strdup}]} continue
    finding $path "calls $name"
  }
  # strdup and strndup allocate, so they do not pass as str*.
  if {[regexp {\m(str(n)?dup)\s*\(} [code_only [read_text $path]] -> name]} {
    finding $path "calls $name; skv_strdup goes through the hooks"
  }
}

foreach object [files build/obj/engine/*/*.o] {
  incr checked
  check_calls $object
}
lint_end $checked "files and objects"
