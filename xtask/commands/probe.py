# Prints "ok TAG PROGRAM LIBDIR", separated by tabs, or the reason why no engine can be built for this Python.
import os, sys, sysconfig
def get(name): return sysconfig.get_config_var(name)
version = sys.version_info[:2]
abi = "t" if get("Py_GIL_DISABLED") else ""
name = "libpython%d.%d%s.so" % (*version, abi)
folders = [get("LIBDIR"), os.path.join(sys.base_prefix, "lib"), os.path.join(sys.base_prefix, "lib64")]
if get("MULTIARCH"):
    folders.append(os.path.join(get("LIBDIR") or "/usr/lib", get("MULTIARCH")))
here = [folder for folder in folders if folder and os.path.exists(os.path.join(folder, name))]
loadable = [folder for folder in folders if folder and os.path.exists(os.path.join(folder, name + ".1.0"))]
if sys.implementation.name != "cpython": print("not CPython")
elif not (3, 10) <= version <= (3, 14): print("version %d.%d is not supported" % version)
elif abi and version < (3, 14): print("a free-threaded build before 3.14")
elif get("Py_DEBUG"): print("a debug build")
elif not get("Py_ENABLE_SHARED"): print("built without a shared libpython")
elif not loadable and not here: print("no %s.1.0" % name)
elif not here: print("no %s to link with (the -dev or -devel package has it)" % name)
else:
    program = os.path.join(sys.base_prefix, "bin", "python%d.%d%s" % (*version, abi))
    if not os.access(program, os.X_OK): program = getattr(sys, "_base_executable", sys.executable)
    print("ok", "cp%d%d%s" % (*version, abi), program, here[0], sep="\t")
