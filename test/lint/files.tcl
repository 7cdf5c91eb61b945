# files.tcl --
#
# engine/DESIGN.md lists every source file with its one concept, in rows that
# begin "| `path` |"; the list and the tree must agree. Each file begins with a
# header comment, and holds no words that do not belong.

source [file join [file dirname [info script]] lib common.tcl]

set listed {}
if {[file exists engine/DESIGN.md]} {
  foreach {- path} [regexp -all -inline -line {^\| `([^`]+\.[ch])` \|} \
      [read_text engine/DESIGN.md]] {
    if {$path in $listed} { finding engine/DESIGN.md "lists $path twice" }
    lappend listed $path
  }
} else {
  finding engine/DESIGN.md "is missing"
}
foreach path [c_files] {
  if {$path ni $listed} { finding engine/DESIGN.md "does not list $path" }
}
foreach path $listed {
  if {![file exists $path]} {
    finding engine/DESIGN.md "lists $path, which does not exist"
  }
}

# Marks of unfinished work, and paths of one person's machine.
set unwanted {
  {\m(TODO|FIXME|XXX|HACK)\M}
  {(^|[\s"'=(])/(work|tmp|root)/}
}
set sources [files include/*.h {engine/*/*.[ch]} {ext/*/*.[ch]} \
  {test/c/*.[ch]} test/bench/* test/*.tcl test/*.test test/lint/*.tcl sql/*.sql README.md \
  Makefile engine/*.md]
set checked 0
foreach path $sources {
  incr checked
  set text [read_text $path]
  if {[file extension $path] in {.c .h} && ![string match "/\\**" $text]} {
    finding $path "does not begin with a header comment"
  }
  if {[file tail $path] eq {files.tcl}} continue
  set number 0
  foreach line [split $text \n] {
    incr number
    foreach pattern $unwanted {
      if {[regexp $pattern $line word]} {
        finding $path:$number "holds \"[string trim $word]\""
      }
    }
  }
}
lint_end $checked files
