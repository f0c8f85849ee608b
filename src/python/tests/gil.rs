//! The engine finds the module that switches the GIL of a free-threaded Python on, and refuses it if the configuration
//! says so.

use super::Script;

/// CPython's own warning, and others.
#[test]
fn the_warning_names_the_module() {
    let script = Script::app(
        "import mod_wsgi, warnings\n\
         seen, shown = [], []\n\
         with warnings.catch_warnings():\n\
         \x20   warnings.simplefilter('always')\n\
         \x20   warnings.showwarning = lambda message, *rest: shown.append(str(message))\n\
         \x20   mod_wsgi._watch_gil(seen.append)\n\
         \x20   text = \"The global interpreter lock (GIL) has been enabled to load module '{}', which has not declared \"\n\
         \x20   warnings.warn(text.format('a.b'), RuntimeWarning)\n\
         \x20   warnings.warn(text.format('c'), UserWarning)\n\
         \x20   warnings.warn('other', RuntimeWarning)\n\
         return respond(start_response, (seen, [text[:5] for text in shown]))",
    );
    let answer = script.request().group("gil-warning").text();
    assert_eq!(answer, "(['a.b'], ['The g', 'other'])");
}

#[cfg(Py_GIL_DISABLED)]
mod free_threaded {
    use std::ffi::c_int;
    use std::process::Command;

    use pyo3::ffi;
    use wsgi_abi::{FreeThreading, RunOutcome};

    use crate::tests::host::server_logged;
    use crate::tests::{ERROR, Script, start};

    const WARNING: i32 = 4;

    #[test]
    fn the_configuration_decides_on_free_threading() {
        for case in ["off", "on", "require"] {
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "tests::gil::free_threaded::the_process",
                    "--ignored",
                ])
                .env("WSGI_TEST_CASE", case)
                .output()
                .unwrap();
            let out = String::from_utf8_lossy(&child.stdout);
            assert!(out.contains("1 passed"), "{case}: {out}");
        }
    }

    /// Returns an extension module that declares nothing about the GIL.
    unsafe extern "C" fn needs_gil() -> *mut ffi::PyObject {
        struct Static(std::cell::UnsafeCell<ffi::PyModuleDef>);
        // SAFETY: CPython writes to the definition under its own locks only.
        unsafe impl Sync for Static {}
        static DEFINITION: Static = Static(std::cell::UnsafeCell::new(ffi::PyModuleDef {
            m_base: ffi::PyModuleDef_HEAD_INIT,
            m_name: c"needs_gil".as_ptr(),
            m_doc: std::ptr::null(),
            m_size: 0,
            m_methods: std::ptr::null_mut(),
            m_slots: SLOTS.0.get().cast(),
            m_traverse: None,
            m_clear: None,
            m_free: None,
        }));
        struct Slots(std::cell::UnsafeCell<[ffi::PyModuleDef_Slot; 1]>);
        // SAFETY: constant data.
        unsafe impl Sync for Slots {}
        static SLOTS: Slots = Slots(std::cell::UnsafeCell::new([ffi::PyModuleDef_Slot {
            slot: 0,
            value: std::ptr::null_mut(),
        }]));
        // SAFETY: the definition is static.
        unsafe { ffi::PyModuleDef_Init(DEFINITION.0.get()) }
    }

    #[test]
    #[ignore = "has to be the only one in its process; run by the_configuration_decides_on_free_threading"]
    fn the_process() {
        let case = std::env::var("WSGI_TEST_CASE").unwrap();
        // SAFETY: Python is not running yet.
        let added: c_int =
            unsafe { ffi::PyImport_AppendInittab(c"needs_gil".as_ptr(), Some(needs_gil)) };
        assert_eq!(added, 0);
        start();
        let is_on = Script::app("return respond(start_response, sys._is_gil_enabled())");
        let needy = Script::new(
            "import needs_gil\n\
             def application(environ, start_response): return respond(start_response, sys._is_gil_enabled())\n",
        );
        assert_eq!(is_on.text(), if case == "off" { "True" } else { "False" });
        let line = "WSGI1035: module 'needs_gil' has switched on the GIL of this child: it does not declare that it works \
                    without a GIL";
        if case == "require" {
            for _ in 0..2 {
                let refused = needy.run();
                assert!(refused.is(RunOutcome::Failed), "{refused:?}");
                let why = format!(
                    "WSGI1036: WSGI script '{}' is not served: its module 'needs_gil' has switched the GIL on, and \
                     WSGIFreeThreading is On with require",
                    needy.path.display()
                );
                assert!(refused.lines(ERROR).contains(&why.as_str()), "{refused:?}");
            }
        } else {
            assert_eq!(needy.text(), "True");
        }
        assert_eq!(server_logged(WARNING, line), case != "off");
        assert_eq!(is_on.text(), "True");
    }

    /// The configuration of this process.
    pub(in crate::tests) fn asked() -> FreeThreading {
        match std::env::var("WSGI_TEST_CASE").as_deref() {
            Ok("off" | "gil") => FreeThreading::Off,
            Ok("require") => FreeThreading::Require,
            _ => FreeThreading::On,
        }
    }
}

/// Returns the configuration of the tests on a free-threaded build: without the GIL, unless a test is about it.
pub(super) fn asked() -> wsgi_abi::FreeThreading {
    #[cfg(Py_GIL_DISABLED)]
    return free_threaded::asked();
    #[cfg(not(Py_GIL_DISABLED))]
    wsgi_abi::FreeThreading::Off
}
