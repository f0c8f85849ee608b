//! Extensions that call back into Python through `PyGILState_Ensure`, which knows one thread state per thread. It has
//! to be that of the interpreter that runs the request, in whatever order a thread uses interpreters.

use super::Script;

const CALLBACKS: &str = "\
import ctypes, sqlite3, threading

def compare(left, right):
    return left.contents.value - right.contents.value

def sort():
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
    ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), kind(compare))
    return list(numbers)

def query():
    connection = sqlite3.connect(':memory:')
    connection.create_function('double', 1, lambda number: 2 * number)
    connection.create_aggregate('total_of', 1, Total)
    result = connection.execute('select double(21), total_of(1)').fetchone()
    connection.close()
    return result

class Total:
    def __init__(self): self.total = 0
    def step(self, value): self.total += value
    def finalize(self): return self.total

def application(environ, start_response):
    import mod_wsgi
    results = [sort(), query()]
    thread = threading.Thread(target=lambda: results.extend([sort(), query()]))
    thread.start()
    thread.join()
    return respond(start_response, (mod_wsgi.application_group, *results))
";

fn expected(group: &str) -> String {
    format!("('{group}', [1, 2, 3, 4, 5], (42, 1), [1, 2, 3, 4, 5], (42, 1))")
}

#[test]
fn call_back_in_each_interpreter() {
    let script = Script::new(CALLBACKS);
    for group in [
        "",
        "callbacks-a",
        "",
        "callbacks-b",
        "callbacks-a",
        "callbacks-b",
        "",
    ] {
        assert_eq!(script.request().group(group).text(), expected(group));
    }
}

#[test]
fn call_back_on_many_threads_at_a_time() {
    let script = Script::new(CALLBACKS);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let script = &script;
            scope.spawn(move || {
                for turn in 0..8 {
                    let group = ["", "callbacks-c", "callbacks-d"][(thread + turn) % 3];
                    assert_eq!(script.request().group(group).text(), expected(group));
                }
            });
        }
    });
}
