//! An application's writes to `os.environ` stay in its interpreter, and in the programs that it starts.

use super::Script;

/// Writes a variable named by the request, and shows its value in each place that knows variables.
const APPLICATION: &str = "\
import ctypes, os

def of_process(name):
    getenv = ctypes.PyDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    value = getenv(name.encode())
    return value and value.decode()

def application(environ, start_response):
    name = environ['name']
    if environ['write'] is not None:
        os.environ[name] = environ['write']
    return respond(start_response, (os.environ.get(name), of_process(name)))
";

fn write_and_read(script: &Script, group: &str, name: &str, value: Option<&str>) -> String {
    let request = script.request().group(group);
    let request = request.literal(b"name", Some(name.as_bytes()));
    request.literal(b"write", value.map(str::as_bytes)).text()
}

#[test]
fn writes_stay_in_their_interpreter() {
    let script = Script::new(APPLICATION);
    let run = |group, value| write_and_read(&script, group, "WSGI_TEST_E1", value);
    assert_eq!(run("environ-a", Some("a")), "('a', None)");
    assert_eq!(run("environ-b", None), "(None, None)");
    assert_eq!(run("environ-b", Some("b")), "('b', None)");
    assert_eq!(run("environ-a", None), "('a', None)");
    // The main interpreter writes to the process, as always; interpreters that are made later do not see that.
    assert_eq!(run("", Some("main")), "('main', 'main')");
    assert_eq!(run("environ-a", None), "('a', 'main')");
    assert_eq!(run("environ-c", None), "(None, 'main')");
}

#[cfg(Py_3_13)]
#[test]
fn writes_stay_in_a_replica() {
    let script = Script::new(APPLICATION);
    let run = |value| write_and_read(&script, "own-1-environ", "WSGI_TEST_E2", value);
    assert_eq!(run(Some("own")), "('own', None)");
    assert_eq!(run(None), "('own', None)");
    assert_eq!(
        write_and_read(&script, "", "WSGI_TEST_E2", None),
        "(None, None)"
    );
}

#[test]
fn off_leaves_them_to_the_process() {
    let script = Script::new(APPLICATION);
    let run = |group, value| write_and_read(&script, group, "WSGI_TEST_E3", value);
    assert_eq!(run("open-environ-a", Some("x")), "('x', 'x')");
    assert_eq!(run("open-environ-b", None), "('x', 'x')");
}

fn ask(group: &str, lines: &str) -> String {
    Script::app(lines).request().group(group).text()
}

/// All functions of the standard library that start programs pass the variables to them.
#[test]
fn programs_see_them() {
    let lines = "\
import multiprocessing.util, os, signal, subprocess, tempfile
os.environ['WSGI_TEST_E4'] = 'seen'
os.environ['WSGI_TEST_E5'] = 'not'
del os.environ['WSGI_TEST_E5']
os.putenv('WSGI_TEST_E6', 'put')
show = 'echo $WSGI_TEST_E4$WSGI_TEST_E5$WSGI_TEST_E6'
def spawned(name, *environment):
    reading, writing = os.pipe()
    spawn = getattr(os, name)
    process = spawn('/bin/sh', ['sh', '-c', show], *environment, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)])
    os.close(writing)
    os.waitpid(process, 0)
    with os.fdopen(reading) as file: return file.read()
def system():
    with tempfile.NamedTemporaryFile('r') as file:
        status = os.system(f'({show}) > {file.name}; exit 3')
        return file.read() + str(os.waitstatus_to_exitcode(status))
def passed():
    reading, writing = os.pipe()
    process = multiprocessing.util.spawnv_passfds(b'/bin/sh', [b'sh', b'-c', f'{show} >&{writing}'.encode()], [writing])
    os.close(writing)
    os.waitpid(process, 0)
    with os.fdopen(reading) as file: return file.read()
results = [
    subprocess.check_output(['sh', '-c', show], text=True),
    subprocess.check_output(['sh', '-c', show], text=True, close_fds=False),
    subprocess.check_output(['sh', '-c', show], text=True, env={'WSGI_TEST_E4': 'given'}),
    os.popen(show).read(),
    spawned('posix_spawn', None),
    spawned('posix_spawnp', {'WSGI_TEST_E6': 'given'}),
    system(),
    passed(),
]
return respond(start_response, results)";
    let expected = "['seenput\\n', 'seenput\\n', 'given\\n', 'seenput\\n', 'seenput\\n', 'given\\n', 'seenput\\n3', 'seenput\\n']";
    assert_eq!(ask("environ-programs", lines), expected);
    #[cfg(Py_3_13)]
    assert_eq!(ask("own-1-environ-programs", lines), expected);
}

/// `os` behaves as it does elsewhere.
#[test]
fn behaves_like_the_real_one() {
    for (expression, expected) in [
        (
            "os.environ.__setitem__('a=b', 'c')",
            "ValueError: illegal environment variable name",
        ),
        (
            "os.environ.__setitem__('a', 'b\\0')",
            "ValueError: embedded null byte",
        ),
        (
            "os.environ.__delitem__('WSGI_TEST_E7')",
            "KeyError: 'WSGI_TEST_E7'",
        ),
        (
            "os.putenv('WSGI_TEST_E7', 'x') or os.environ.get('WSGI_TEST_E7')",
            "None",
        ),
        (
            "os.putenv('a', 5)",
            "TypeError: expected str, bytes or os.PathLike object, not int",
        ),
        (
            "os.environ.update(WSGI_TEST_E8='\\udcff') or repr(os.environb[b'WSGI_TEST_E8'])",
            "b'\\xff'",
        ),
        (
            "os.environ['PATH'] == os.environb[b'PATH'].decode()",
            "True",
        ),
        (
            "os.putenv.__module__, os.system.__doc__.split()[0]",
            "('os', 'Execute')",
        ),
        ("'subprocess' in sys.modules", "False"),
    ] {
        let lines =
            format!("import os\nreturn respond(start_response, attempt(lambda: ({expression})))");
        assert_eq!(ask("environ-like", &lines), expected, "{expression}");
    }
    let reload = "import os\nos.environ['WSGI_TEST_E9'] = 'kept'\nos.environ._data.clear()\n\
                  if hasattr(os, 'reload_environ'): os.reload_environ()\n\
                  else: os.environ['WSGI_TEST_E9'] = 'kept'\n\
                  return respond(start_response, os.environ['WSGI_TEST_E9'])";
    assert_eq!(ask("environ-reload", reload), "kept");
}
