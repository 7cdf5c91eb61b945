# procs.tcl --
#
# Other processes for tests: sqlite3 shells, tclsh helpers with the extension
# loaded, the daemon, curl. Sourced by tester.tcl. Nothing here waits without
# a bound, and everything started is ended by finish_test.
#
# A process is a handle, the channel of its pipe; `proc_pid` gives its id.

# ---- Waiting -------------------------------------------------------------------

# Poll an expression in the caller's scope until it is true: 1, or 0 after ms.
proc wait_until {expression ms} {
  set end [expr {[clock milliseconds] + $ms * $::patience}]
  while 1 {
    if {[uplevel 1 [list expr $expression]]} { return 1 }
    if {[clock milliseconds] > $end} { return 0 }
    after 3
  }
}

# ---- Start, read, end ----------------------------------------------------------

array set ::process_output {}

# Start a command (a list); stdin, stdout and stderr are ours. `extra` is a
# dict of environment variables for it. A shell or tclsh, which will load the
# extension, also gets the sanitizer's library.
proc spawn_process {command {extra {}}} {
  set saved [array get ::env]
  if {$::preload ne {} &&
      [file tail [lindex $command 0]] in {sqlite3 tclsh tclsh8.6}} {
    dict set extra LD_PRELOAD $::preload
  }
  dict for {name value} $extra { set ::env($name) $value }
  set code [catch { open "|$command 2>@1" r+ } h options]
  foreach name [dict keys $extra] {
    unset ::env($name)
    if {[dict exists $saved $name]} { set ::env($name) [dict get $saved $name] }
  }
  if {$code} { return -options $options $h }
  fconfigure $h -blocking 0 -buffering line -translation lf -encoding utf-8
  set ::process_output($h) {}
  return $h
}

proc proc_pid {h} { lindex [pid $h] 0 }

# Take what the process has printed so far into its output; 0 at its end. What
# was written to it but did not fit into the pipe goes out in the event loop.
proc proc_poll {h} {
  update
  append ::process_output($h) [read $h]
  expr {![eof $h]}
}

# Everything printed so far.
proc proc_output {h} {
  proc_poll $h
  return $::process_output($h)
}

# Wait for output that matches a regular expression; 1, or 0 after ms.
proc proc_wait_output {h pattern ms} {
  wait_until { [regexp -- $pattern [proc_output $h]] || [eof $h] } $ms
  regexp -- $pattern $::process_output($h)
}

# Wait for its end: a list of exit code and output. The code is a number, the
# signal's name if one killed it, or `timeout` if it had to be killed.
proc proc_result {h {ms 60000}} {
  set timely [wait_until { ![proc_poll $h] } $ms]
  if {!$timely} { proc_kill $h SIGKILL; wait_until { ![proc_poll $h] } 5000 }
  set output $::process_output($h)
  set code [proc_close $h]
  if {!$timely} { set code timeout }
  list $code $output
}

proc proc_close {h} {
  unset -nocomplain ::process_output($h)
  fconfigure $h -blocking 1
  if {![catch { close $h } message options]} { return 0 }
  set error [dict get $options -errorcode]
  switch -- [lindex $error 0] {
    CHILDSTATUS { return [lindex $error 2] }
    CHILDKILLED { return [lindex $error 2] }
  }
  return 0  ;# output on stderr only
}

proc proc_kill {h {signal SIGKILL}} {
  catch { exec kill -s [string range $signal 3 end] [proc_pid $h] }
}

proc close_all_processes {} {
  foreach h [array names ::process_output] {
    proc_kill $h SIGKILL
    catch { proc_close $h }
  }
}

# ---- Tcl helpers -----------------------------------------------------------------

# A tclsh of its own with the extension loaded and `db` open on :memory:. With
# a script it runs that and ends (proc_result); without, it answers `ask`.
# `connect`, `perm_sql`, `execsql`, `wait_until` exist there too.
proc spawn_tcl {{script {}}} {
  set path [file join [test_dir] helper[incr ::helper_count].tcl]
  set f [open $path w]
  puts $f "package require sqlite3"
  foreach name {build release perm_options patience seed} {
    puts $f [list set ::$name [set ::$name]]
  }
  foreach name {connect load_stratakv extension_path is_test_build perm_sql
                execsql catchsql all_keys wait_until random_below} {
    puts $f [list proc $name [proc_arguments $name] [info body $name]]
  }
  puts $f "expr {srand($::seed + $::helper_count)}"
  puts $f {fconfigure stdout -buffering line}
  puts $f {fconfigure stdin -translation lf -encoding utf-8}
  puts $f {fconfigure stdout -translation lf -encoding utf-8}
  puts $f {connect db :memory:}
  puts $f {db timeout 5000}
  puts $f [expr {$script eq {} ? $::helper_loop : $script}]
  close $f
  spawn_process [list [info nameofexecutable] $path]
}

proc proc_arguments {name} {
  set arguments {}
  foreach a [info args $name] {
    if {[info default $name $a value]} { lappend arguments [list $a $value] } \
      else { lappend arguments $a }
  }
  return $arguments
}

# One request a line: a script as a one-element list with newlines escaped.
set ::helper_loop {
  while {[gets stdin line] >= 0} {
    set code [catch { uplevel #0 [encoding convertfrom utf-8 \
      [binary decode base64 $line]] } result]
    puts "=$code [binary encode base64 [encoding convertto utf-8 $result]]"
  }
}

# Run a script in a helper started without one and return its result; an error
# there is an error here. ask_start and ask_end are the two halves.
proc ask {h script {ms 30000}} {
  ask_start $h $script
  ask_end $h $ms
}

proc ask_start {h script} {
  set ::process_output($h) {}
  puts $h [binary encode base64 [encoding convertto utf-8 $script]]
  flush $h
}

proc ask_end {h {ms 30000}} {
  if {![proc_wait_output $h {(?n)^=\d .*\n} $ms]} {
    error "helper did not answer: $::process_output($h)"
  }
  regexp {(?n)^=(\d) (.*)$} $::process_output($h) -> code answer
  set result [encoding convertfrom utf-8 [binary decode base64 $answer]]
  if {$code} { error $result }
  return $result
}

# A sqlite3 shell on `database`, the extension loaded, that runs `sql` (or, if
# that is empty, waits for shell_send). Ends at the end of the SQL.
proc spawn_shell {sql {database :memory:}} {
  set h [spawn_process [list sqlite3 -batch $database]]
  puts $h ".load [extension_path]"
  puts $h ".timeout 5000"
  if {$sql ne {}} { puts $h $sql; shell_end $h }
  return $h
}

proc shell_send {h sql} { puts $h $sql; flush $h }
proc shell_end {h} { puts $h .quit; flush $h }

# Run SQL in an open shell and return what it printed.
proc shell_ask {h sql {ms 30000}} {
  set mark "-- end [incr ::shell_marks] --"
  proc_poll $h
  set ::process_output($h) {}
  shell_send $h "$sql\n.print \"$mark\""
  if {![proc_wait_output $h "(?n)^$mark\$" $ms]} {
    error "shell did not answer: $::process_output($h)"
  }
  string trim [string range $::process_output($h) 0 \
    [expr {[string first $mark $::process_output($h)] - 1}]]
}

# ---- The daemon ------------------------------------------------------------------

proc free_port {} {
  set s [socket -server {} -myaddr 127.0.0.1 0]
  set port [lindex [fconfigure $s -sockname] 2]
  close $s
  return $port
}

# Start the daemon and wait until it answers: a dict with pid port store h.
# Arguments are options for it; `-store dir` and `-port n` are ours. Another
# process may take the port in between, then (exit 3) another one is tried.
proc daemon_start {args} {
  set store daemon[incr ::daemon_count].strata
  set port {}
  set options {}
  for {set i 0} {$i < [llength $args]} {incr i} {
    switch -- [lindex $args $i] {
      -store { set store [lindex $args [incr i]] }
      -port { set port [lindex $args [incr i]] }
      default { lappend options [lindex $args $i] }
    }
  }
  set leaks {}
  if {$::sanitizer eq {asan}} {
    set leaks [list ASAN_OPTIONS detect_leaks=1:exitcode=86]
  }
  for {set try 1} 1 {incr try} {
    set p [expr {$port eq {} ? [free_port] : $port}]
    set h [spawn_process [list [file join $::build stratakvd] \
      --listen 127.0.0.1:$p {*}$options $store] $leaks]
    set up [wait_until { [daemon_answers $p] || ![proc_poll $h] } 20000]
    if {$up && ![eof $h]} {
      return [dict create pid [proc_pid $h] port $p store $store h $h]
    }
    lassign [proc_result $h 100] code output
    if {$code != 3 || $try >= 5 || $port ne {}} {
      error "stratakvd did not start (exit $code): $output"
    }
  }
}

proc daemon_answers {port} {
  if {[catch { lindex [curl http://127.0.0.1:$port/healthz] 0 } status]} {
    return 0
  }
  expr {$status == 200}
}

# Stop it and return its exit code (or the signal's name).
proc daemon_stop {daemon {signal SIGTERM}} {
  set h [dict get $daemon h]
  proc_kill $h $signal
  lindex [proc_result $h 15000] 0
}

proc url {daemon path} {
  return http://127.0.0.1:[dict get $daemon port]$path
}

# ---- HTTP ------------------------------------------------------------------------

# Run curl: a list of status, headers (a dict, names in lower case) and body.
# The status is 0 if there was no answer.
proc curl {args} {
  set body [file join [test_dir] curl[pid].body]
  set head [file join [test_dir] curl[pid].head]
  file delete $body $head
  set status [curl_run $body $head $args]
  set headers {}
  if {[file exists $head]} {
    foreach line [split [file_bytes $head] \n] {
      if {[regexp {^HTTP/} $line]} { set headers {} }  ;# after a 100
      if {[regexp {^([^:\s]+):\s*(.*?)\s*$} $line -> name value]} {
        dict set headers [string tolower $name] $value
      }
    }
  }
  set content [expr {[file exists $body] ? [file_bytes $body] : {}}]
  list $status $headers $content
}

proc curl_run {body head arguments} {
  catch {
    exec curl --silent --show-error --max-time 30 --noproxy * -o $body \
      -D $head -w "%{http_code}" {*}$arguments 2>/dev/null
  } status
  if {![regexp {^\d+} $status status]} { set status 0 }
  return [scan $status %d]
}

# Send raw bytes and return all that comes back before the other side closes,
# or before ms.
proc raw_http {port bytes {ms 10000}} {
  set s [socket 127.0.0.1 $port]
  fconfigure $s -translation binary -blocking 0 -buffering full
  catch { puts -nonewline $s $bytes; flush $s }
  set answer {}
  wait_until {
    [catch { append answer [read $s] }] || [eof $s]
  } $ms
  catch { close $s }
  return $answer
}
