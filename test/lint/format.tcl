# format.tcl --
#
# The C sources are as `make format` leaves them.

source [file join [file dirname [info script]] lib common.tcl]

set paths [concat [c_files] [files {test/c/*.[ch]} {test/bench/*.[ch]}]]
if {[auto_execok clang-format] eq {}} {
  puts "lint format: skipped, clang-format is missing (package clang-format)"
  exit 0
}
foreach path $paths {
  if {![file exists $path]} continue
  if {[exec clang-format $path] ne [string trimright [read_text $path] \n]} {
    finding $path "differs from what `make format` makes of it"
  }
}
lint_end [llength $paths] files
