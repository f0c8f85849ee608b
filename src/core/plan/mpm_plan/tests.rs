use super::*;

#[test]
fn plans() {
    let everything = ExecutorConfig::default();
    for (mpm, processes, threads, multithread, multiprocess, text) in [
        (
            "event",
            4,
            25,
            true,
            true,
            "event: 4 children x 25 threads, up to 100 requests at once",
        ),
        (
            "Worker",
            1,
            25,
            true,
            false,
            "worker: 1 child x 25 threads, up to 25 requests at once",
        ),
        (
            "prefork",
            8,
            0,
            false,
            true,
            "prefork: 8 children x 1 thread, up to 8 requests at once",
        ),
        (
            "prefork",
            1,
            1,
            false,
            false,
            "prefork: 1 child x 1 thread, up to 1 request at once",
        ),
        (
            "itk",
            0,
            2,
            true,
            false,
            "this MPM: 1 child x 2 threads, up to 2 requests at once",
        ),
    ] {
        let plan = MpmPlan::new(Mpm::from_name(mpm), processes, threads, 2);
        assert_eq!(
            (
                plan.threads_inside(&plan.executor(&everything, true), None) > 1,
                plan.multiprocess()
            ),
            (multithread, multiprocess),
            "{mpm}"
        );
        assert_eq!(plan.to_string(), text);
        let memory = Some(MemoryLimit {
            bytes: 1 << 30,
            is_of_group: true,
        });
        assert_eq!(
            plan.with_memory(memory).to_string(),
            format!("{text}, 1024 MiB of memory in the control group")
        );
    }
}

#[test]
fn replicas_are_as_many_as_cores_for_a_child_and_threads_of_it() {
    for (processes, threads, cores, wanted, expected) in [
        (1, 25, 8, Replicas::Auto, 8),
        (4, 25, 8, Replicas::Auto, 2),
        (3, 25, 8, Replicas::Auto, 3),
        (16, 25, 2, Replicas::Auto, 1),
        (1, 4, 8, Replicas::Auto, 4),
        (1, 25, 2, Replicas::Count(6), 6),
        (1, 4, 2, Replicas::Count(6), 4),
        (1, 100, 0, Replicas::Auto, 1),
    ] {
        let plan = MpmPlan::new(Mpm::Event, processes, threads, cores);
        assert_eq!(plan.replicas(wanted), expected, "{plan:?} {wanted:?}");
    }
    assert_eq!(
        MpmPlan::new(Mpm::Prefork, 8, 1, 4).replicas(Replicas::Count(4)),
        1
    );
}
fn plan(mpm: Mpm, threads: u32, cores: u32) -> MpmPlan {
    MpmPlan::new(mpm, 4, threads, cores)
}

#[test]
fn auto_delegates_where_threads_share_a_gil() {
    use Strategy::*;
    let asked = |strategy| ExecutorConfig {
        strategy: Some(strategy),
        ..ExecutorConfig::default()
    };
    for (mpm, threads, has_gil, wanted, expected) in [
        (Mpm::Event, 25, true, None, Delegate),
        (Mpm::Worker, 25, true, None, Delegate),
        (Mpm::Worker, 1, true, None, Direct),
        (Mpm::Event, 25, false, None, Direct),
        (Mpm::Prefork, 1, true, None, Direct),
        (Mpm::Prefork, 1, true, Some(Delegate), Direct),
        (Mpm::Prefork, 1, true, Some(Pool), Direct),
        (Mpm::Event, 25, true, Some(Direct), Direct),
        (Mpm::Event, 25, true, Some(Pool), Pool),
        (Mpm::Event, 25, false, Some(Delegate), Delegate),
    ] {
        let found = plan(mpm, threads, 2).executor(&asked(wanted), has_gil);
        assert_eq!(found.strategy, expected, "{mpm:?} {threads} {wanted:?}");
    }
    let unsaid = plan(Mpm::Event, 25, 2).executor(&ExecutorConfig::default(), true);
    let expected = Executor {
        strategy: Delegate,
        least: 1,
        most: 25,
        pool_size: 4,
        queue_depth: u32::MAX,
        queue_timeout: std::time::Duration::from_secs(60),
        share: u32::MAX,
    };
    assert_eq!(unsaid, expected);
}

#[test]
fn bounds_are_within_the_threads_of_a_child() {
    for (threads, least, most, expected) in [
        (25, None, None, (1, 25)),
        (2, None, None, (1, 2)),
        (25, Some(10), None, (10, 25)),
        (25, None, Some(2), (1, 2)),
        (25, Some(50), None, (25, 25)),
        (25, None, Some(50), (1, 25)),
    ] {
        let written = ExecutorConfig {
            least,
            most,
            ..ExecutorConfig::default()
        };
        let found = plan(Mpm::Event, threads, 2).executor(&written, true);
        assert_eq!((found.least, found.most), expected, "{written:?}");
    }
}

#[test]
fn threads_inside_follow_from_the_executor() {
    use Strategy::*;
    let written =
        |strategy: Option<Strategy>, most, pool_size: Option<u32>, share| ExecutorConfig {
            strategy: strategy.map(Some),
            most,
            pool_size: pool_size.map(PoolSize::Count),
            share,
            ..ExecutorConfig::default()
        };
    for (threads, reserve, written, expected) in [
        (25, None, ExecutorConfig::default(), 25),
        (1, None, ExecutorConfig::default(), 1),
        (25, None, written(Some(Direct), None, None, None), 25),
        (25, None, written(Some(Delegate), Some(1), None, None), 1),
        // Requests that wait for their clients count as inside, too, while other requests hold their permits.
        (25, None, written(Some(Delegate), Some(2), None, None), 25),
        (25, None, written(Some(Pool), None, Some(1), None), 1),
        (25, None, written(None, None, Some(1), None), 1),
        (25, None, written(Some(Pool), None, Some(3), None), 25),
        (
            25,
            None,
            written(None, None, None, Some(Share::Threads(1))),
            1,
        ),
        (
            25,
            None,
            written(None, None, None, Some(Share::Percent(20))),
            5,
        ),
        (25, Some(Share::Threads(5)), ExecutorConfig::default(), 20),
        (25, Some(Share::Threads(24)), ExecutorConfig::default(), 1),
        (25, Some(Share::Threads(99)), ExecutorConfig::default(), 1),
        // `max` has no effect with another strategy.
        (25, None, written(Some(Direct), Some(1), None, None), 25),
    ] {
        let plan = plan(Mpm::Event, threads, 2);
        let executor = plan.executor(&written, true);
        assert_eq!(
            plan.threads_inside(&executor, reserve),
            expected,
            "{written:?} {reserve:?}"
        );
    }
}

#[test]
fn pools_are_as_large_as_suits_the_cores_and_never_larger_than_the_threads() {
    for (threads, cores, size, expected) in [
        (25, 2, None, 4),
        (25, 2, Some(PoolSize::Auto), 4),
        (25, 8, None, 16),
        (25, 64, None, 25),
        (3, 2, None, 3),
        (25, 2, Some(PoolSize::Count(9)), 9),
        (25, 2, Some(PoolSize::Count(90)), 25),
    ] {
        let written = ExecutorConfig {
            pool_size: size,
            ..ExecutorConfig::default()
        };
        let found = plan(Mpm::Event, threads, cores).executor(&written, true);
        assert_eq!(found.pool_size, expected, "{threads} {cores} {size:?}");
    }
}

#[test]
fn a_reserve_leaves_a_thread_to_python() {
    let event = plan(Mpm::Event, 25, 2);
    for (written, expected) in [
        (None, 0),
        (Some(Share::Threads(5)), 5),
        (Some(Share::Percent(20)), 5),
        (Some(Share::Percent(1)), 1),
        (Some(Share::Percent(100)), 24),
        (Some(Share::Threads(99)), 24),
    ] {
        assert_eq!(event.reserve(written), expected, "{written:?}");
    }
    let cut = |written| event.reserve_problem(Some(written)).is_some();
    assert!(cut(Share::Percent(100)) && cut(Share::Threads(25)));
    assert!(!cut(Share::Percent(99)) && !cut(Share::Threads(24)));
    let prefork = plan(Mpm::Prefork, 1, 2);
    assert_eq!(prefork.reserve_problem(Some(Share::Threads(5))), None);
    assert_eq!(prefork.reserve(Some(Share::Percent(50))), 0);
}
#[test]
fn shapes() {
    assert_eq!(
        MpmPlan::new(Mpm::Event, 4, 25, 2).shape(),
        "event: 4 children x 25 threads, 2 cores"
    );
    assert_eq!(
        MpmPlan::new(Mpm::Prefork, 1, 1, 1).shape(),
        "prefork: 1 child x 1 thread, 1 core"
    );
    let group = ProcessGroup {
        name: "site".into(),
        processes: Some(2),
        ..ProcessGroup::default()
    };
    assert_eq!(
        group.plan(0).shape(),
        "process group 'site': 2 processes x 15 threads, 1 core"
    );
}

#[test]
fn process_groups_have_plans() {
    for (processes, threads, multithread, multiprocess, text) in [
        (
            None,
            15,
            true,
            false,
            "process group 'site': 1 process x 15 threads, up to 15 requests at once",
        ),
        (
            Some(1),
            15,
            true,
            true,
            "process group 'site': 1 process x 15 threads, up to 15 requests at once",
        ),
        (
            Some(2),
            1,
            false,
            true,
            "process group 'site': 2 processes x 1 thread, up to 2 requests at once",
        ),
        (
            None,
            0,
            false,
            false,
            "process group 'site': 1 process without threads for requests",
        ),
        (
            Some(u32::MAX),
            65533,
            true,
            true,
            "process group 'site': 4294967295 processes x 65533 threads, up to 281462091743235 requests at once",
        ),
    ] {
        let group = ProcessGroup {
            name: "site".into(),
            processes,
            threads,
            ..ProcessGroup::default()
        };
        let plan = group.plan(2);
        let executor = plan.executor(&ExecutorConfig::default(), true);
        assert_eq!(
            (
                plan.threads_inside(&executor, None) > 1,
                plan.multiprocess()
            ),
            (multithread, multiprocess),
            "{text}"
        );
        assert_eq!(executor.most, threads.max(1), "{text}");
        assert_eq!(plan.processes(), processes.unwrap_or(1), "{text}");
        assert_eq!(plan.python_threads(), threads.max(1), "{text}");
        assert_eq!(plan.to_string(), text);
        let memory = Some(MemoryLimit {
            bytes: 1 << 30,
            is_of_group: false,
        });
        let spare = Spare { least: 1, most: 1 };
        assert_eq!(plan.spare_problem(spare), None);
        assert_eq!(plan.with_memory(memory).memory_problem(u64::MAX), None);
    }
}

#[test]
fn the_executor_of_a_process_group_keeps_its_limit() {
    let group = ProcessGroup {
        threads: 1,
        ..ProcessGroup::default()
    };
    for (written, expected) in [
        (None, Strategy::Delegate),
        (Some(Strategy::Direct), Strategy::Delegate),
        (Some(Strategy::Delegate), Strategy::Delegate),
        (Some(Strategy::Pool), Strategy::Pool),
    ] {
        let written = ExecutorConfig {
            strategy: written.map(Some),
            ..ExecutorConfig::default()
        };
        for has_gil in [true, false] {
            let executor = group.plan(2).executor(&written, has_gil);
            assert_eq!((executor.strategy, executor.most), (expected, 1));
        }
    }
}

#[test]
fn the_queue_of_a_process_group_has_its_time_unless_wsgiqueue_says_another() {
    let seconds = std::time::Duration::from_secs;
    for (of_group, of_server, expected) in [
        (None, None, 60),
        (Some(45), None, 45),
        (None, Some(10), 10),
        (Some(45), Some(10), 10),
    ] {
        let group = ProcessGroup {
            queue_timeout: of_group.map(seconds),
            ..ProcessGroup::default()
        };
        let mut server = crate::config::PythonConfig::default();
        server.executor.queue_timeout = of_server.map(seconds);
        let written = group.python(&server).executor;
        let executor = group.plan(2).executor(&written, true);
        assert_eq!(executor.queue_timeout, seconds(expected));
    }
}

#[test]
fn children_that_come_and_go_are_told_of_by_how_badly() {
    let bad = Some(Message::ChildrenComeAndGo);
    let mild = Some(Message::ChildrenEndIdle);
    for (mpm, processes, threads, least, most, expected) in [
        // The defaults of Debian and httpd.
        (Mpm::Event, 6, 25, 25, 75, mild),
        (Mpm::Event, 16, 25, 75, 250, mild),
        (Mpm::Worker, 16, 25, 75, 250, mild),
        (Mpm::Prefork, 150, 1, 5, 10, mild),
        (Mpm::Prefork, 250, 1, 5, 10, mild),
        // No child ends for being idle.
        (Mpm::Event, 6, 25, 25, 150, None),
        (Mpm::Prefork, 10, 1, 1, 10, None),
        (Mpm::Event, 1, 25, 25, 20, None),
        (Mpm::Other, 6, 25, 1, 1, None),
        // One idle child is already too many.
        (Mpm::Event, 6, 25, 25, 50, bad),
        (Mpm::Event, 6, 25, 75, 30, bad),
        (Mpm::Worker, 6, 25, 50, 75, bad),
        (Mpm::Prefork, 150, 1, 5, 6, bad),
        (Mpm::Prefork, 150, 1, u32::MAX, 6, bad),
    ] {
        let plan = MpmPlan::new(mpm, processes, threads, 2);
        let found = plan.spare_problem(Spare { least, most });
        assert_eq!(
            found.map(|(message, _)| message),
            expected,
            "{mpm:?} {processes} x {threads}, {least} to {most}"
        );
    }
}

#[test]
fn children_have_to_fit_into_memory() {
    let limit = |is_of_group| MemoryLimit {
        bytes: 1 << 30,
        is_of_group,
    };
    let plan = |memory| MpmPlan::new(Mpm::Event, 4, 25, 2).with_memory(memory);
    assert_eq!(plan(None).memory_problem(u64::MAX), None);
    assert_eq!(plan(Some(limit(true))).memory_problem(256 << 20), None);
    for (is_of_group, whose) in [(true, "the control group"), (false, "the machine")] {
        let found = plan(Some(limit(is_of_group))).memory_problem(300 << 20);
        let (message, line) = found.expect("too much");
        assert_eq!(message, Message::MemoryShort);
        for part in ["300 MiB", "4 children", "1200 MiB", whose, "1024 MiB"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    let machine = plan(Some(limit(false)));
    assert!(machine.memory_problem(u64::MAX).is_some());
}
