//! Plans for machines of all kinds.

use proptest::prelude::*;

use super::*;
use crate::pipeline::cores::tests::Sysfs;
use crate::settings::Authentication;

fn plan_on(cores: &Cores, choice: &Placement, replicas: usize, index: usize) -> Plan {
    plan_for(WorkProfile::Mixed, cores, choice, replicas, index)
}

fn plan_for(work: WorkProfile, cores: &Cores, choice: &Placement, replicas: usize, index: usize) -> Plan {
    let plan = Plan::new(choice, WaitChoice::Auto, work, cores, replicas, index);
    check(&plan, cores);
    plan
}

/// Where requests are signed.
fn verifying_on(cores: &Cores, replicas: usize, index: usize) -> Plan {
    plan_for(WorkProfile::VerifyBound, cores, &Placement::Auto, replicas, index)
}

/// On a machine of so many cores that are all alike.
fn plan(choice: &Placement, cores: usize, replicas: usize, index: usize) -> Plan {
    plan_on(&Cores::flat(&(0..cores).collect::<Vec<_>>()), choice, replicas, index)
}

fn auto_on(cores: &Cores, replicas: usize, index: usize) -> Plan {
    plan_on(cores, &Placement::Auto, replicas, index)
}

/// What holds of every plan.
fn check(plan: &Plan, cores: &Cores) {
    let mut roles: Vec<Role> = plan.threads.iter().flat_map(|thread| thread.roles.clone()).collect();
    roles.sort_unstable();
    let mut expected = vec![Role::Network];
    expected.extend((0..plan.verify_stages()).map(Role::Verify));
    expected.extend([Role::Order, Role::Execute, Role::Egress]);
    assert_eq!(roles, expected, "every stage runs exactly once");
    assert!(plan.verify_stages() > 0);
    let mut names: Vec<&str> = plan.threads.iter().map(|t| t.name.get(..15).unwrap_or(&t.name)).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), plan.threads.len(), "the kernel's names of threads differ");
    let can_be_had = |core| cores.all().is_empty() || cores.get(core).is_some();
    assert!(plan.threads.iter().all(|thread| thread.core.is_none_or(can_be_had)));
}

/// The names of the threads, each with its core.
fn seats(plan: &Plan) -> Vec<(&str, Option<usize>)> {
    plan.threads.iter().map(|thread| (thread.name.as_str(), thread.core)).collect()
}

#[test]
fn few_cores_fuse_and_park() {
    for index in 0..4 {
        let plan = plan(&Placement::Auto, 2, 4, index);
        let core = index / 2;
        assert_eq!(seats(&plan), [("fused", Some(core))]);
        assert_eq!(plan.wait, Wait::Park);
        let expected = "fused: 2 cores for 4 replicas on this machine; 1 thread a replica, parked while idle; pinned: \
                        fused to";
        assert_eq!(plan.explanation, format!("{expected} {core}"));
    }
}

#[test]
fn a_share_of_one_core_is_where_the_only_thread_is() {
    let cores = |machine: &Cores| (0..4).map(|index| auto_on(machine, 4, index).threads[0].core).collect::<Vec<_>>();
    assert_eq!(cores(&Cores::flat(&[0, 1, 2, 3, 4, 5, 6, 7])), [Some(0), Some(1), Some(2), Some(3)]);
    // Replicas are dealt out to the nodes in turn.
    assert_eq!(cores(&Sysfs::machine(2, 4, 1).cores(0..8)), [Some(0), Some(4), Some(1), Some(5)]);
}

#[test]
fn many_cores_pipeline_on_cores_of_their_own_and_spin() {
    let mut used = Vec::new();
    for index in 0..4 {
        let plan = plan(&Placement::Auto, 32, 4, index);
        assert_eq!(plan.wait, Wait::Spin);
        assert_eq!(plan.verify_stages(), 3);
        used.extend(plan.threads.iter().map(|thread| thread.core.unwrap()));
    }
    let cores = used.len();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), cores, "no core is shared");
}

#[test]
fn one_replica_on_sixteen_cores_fans_verify_out() {
    assert_eq!(plan(&Placement::Auto, 16, 1, 0).verify_stages(), VERIFY_MAX);
}

#[test]
fn between_few_and_many_stages_share_threads() {
    let names = |cores| plan(&Placement::Auto, cores, 1, 0).threads.iter().map(|t| t.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(2), ["network+egress", "verify-0+order+execute"]);
    assert_eq!(names(3), ["network+egress", "verify-0", "order+execute"]);
    assert_eq!(names(4), ["network", "verify-0", "order+execute", "egress"]);
    assert_eq!(names(5), ["network", "order", "execute", "egress", "verify-0"]);
}

#[test]
fn a_signature_for_each_request_is_what_makes_verification_nearly_all_the_work() {
    let work = |auth: &str, auth_granularity| {
        let authentication = auth.parse().unwrap();
        WorkProfile::of(&ClusterSettings { authentication, auth_granularity, ..ClusterSettings::default() })
    };
    for (auth, expected) in [
        ("none", WorkProfile::Mixed),
        ("mac", WorkProfile::Mixed),
        ("mac-gmac", WorkProfile::Mixed),
        ("ed25519", WorkProfile::VerifyBound),
        ("ed25519-batch", WorkProfile::VerifyBound),
        ("ed25519-zip215-batch", WorkProfile::VerifyBound),
        ("ed25519-merkle", WorkProfile::Mixed),
        ("hybrid", WorkProfile::VerifyBound),
    ] {
        assert_eq!(work(auth, Granularity::Request), expected, "{auth}");
        assert_eq!(work(auth, Granularity::Frame), WorkProfile::Mixed, "{auth}");
    }
    // Messages between replicas are few.
    let [mac, signed] = ["mac", "ed25519"].map(|auth| auth.parse::<Authentication>().unwrap());
    let authentication = Authentication { clients: mac.clients, ..signed };
    assert_eq!(WorkProfile::of(&ClusterSettings { authentication, ..ClusterSettings::default() }), WorkProfile::Mixed);
}

#[test]
fn signed_requests_are_verified_on_all_cores_but_the_first() {
    let names = |cores: usize| {
        let plan = verifying_on(&Cores::flat(&(0..cores).collect::<Vec<_>>()), 1, 0);
        plan.threads.iter().map(|t| t.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let others = "network+order+execute+egress";
    assert_eq!([names(0), names(1)], ["fused", "fused"]);
    assert_eq!(names(2), format!("{others} verify-0"));
    assert_eq!(names(3), format!("{others} verify-0 verify-1"));
    assert_eq!(names(4), format!("{others} verify-0 verify-1 verify-2"));
    let eight = "verify-0 verify-1 verify-2 verify-3 verify-4 verify-5 verify-6 verify-7";
    assert_eq!(names(9), format!("{others} {eight}"));
    for more in 10..20 {
        assert_eq!(names(more), format!("network+egress order+execute {eight}"));
    }
}

#[test]
fn it_is_told_that_signed_requests_decide() {
    let cores = Cores::flat(&(0..16).collect::<Vec<_>>());
    let plan = verifying_on(&cores, 4, 1);
    assert_eq!(plan.wait, Wait::Spin);
    let expected = "partly fused: 16 cores for 4 replicas on this machine, all of a replica's but one to verify \
                    signatures of requests, which is most of its work; 3 threads a replica, spinning while idle; \
                    pinned: network+order+execute+egress to 3, verify-0 to 4, verify-1 to 5";
    assert_eq!(plan.explanation, expected);
    let expected = "partly fused: 16 cores for 1 replicas on this machine, as many of a replica's as can be used to \
                    verify signatures of requests, which is most of its work; 10 threads a replica, spinning";
    assert!(verifying_on(&cores, 1, 0).explanation.starts_with(expected));
    // What is asked for, and what has no room, is what it is with tags.
    let two = Cores::flat(&[0, 1]);
    assert_eq!(verifying_on(&two, 4, 0), auto_on(&two, 4, 0));
    for choice in ["fused", "pipelined", "network+egress@2,verify@3,verify@4,order+execute@5", "0,1,2,2,3,4"] {
        let choice = choice.parse().unwrap();
        assert_eq!(plan_for(WorkProfile::VerifyBound, &cores, &choice, 4, 2), plan_on(&cores, &choice, 4, 2));
    }
}

#[test]
fn a_stage_that_verifies_shares_its_physical_core_with_no_other_thread() {
    let cores = Sysfs::machine(2, 8, 2).cores(0..32);
    for index in 0..4 {
        let plan = verifying_on(&cores, 4, index);
        assert_eq!((plan.threads.len(), plan.wait), (3, Wait::Spin), "{plan:?}");
        assert!(plan.threads.iter().all(|thread| cores.get(thread.core.unwrap()).unwrap().node == index % 2));
        assert!(!plan.explanation.contains("share"), "{}", plan.explanation);
    }
    // But for a physical core that is the only one: then as with tags.
    let one = Sysfs::machine(1, 1, 2).cores(0..2);
    assert_eq!(verifying_on(&one, 1, 0), auto_on(&one, 1, 0));
    assert_eq!(verifying_on(&one, 1, 0).threads.len(), 2);
}

#[test]
fn cores_without_a_replicas_thread_are_left_to_others() {
    let left =
        |cores: &Cores, choice: &str, work, replicas| cores_left(&choice.parse().unwrap(), work, cores, replicas);
    let flat = |cores: usize| Cores::flat(&(0..cores).collect::<Vec<_>>());
    for (cores, replicas, tags, signed) in [
        (0, 4, 0, 0),
        (2, 4, 0, 0),
        (5, 4, 1, 1),
        (8, 4, 4, 4),
        (9, 4, 1, 1),
        (16, 4, 4, 4),
        (64, 4, 16, 24),
        (4, 1, 0, 0),
    ] {
        let found =
            [WorkProfile::Mixed, WorkProfile::VerifyBound].map(|work| left(&flat(cores), "auto", work, replicas));
        assert_eq!(found, [tags, signed], "{cores} cores, {replicas} replicas");
    }
    // A thread that is pinned to none takes one; one that all replicas are pinned to is taken once.
    assert_eq!(left(&flat(16), "fused", WorkProfile::Mixed, 4), 12);
    assert_eq!(left(&flat(16), "network+egress,verify,order+execute", WorkProfile::Mixed, 4), 4);
    assert_eq!(left(&flat(16), "network+egress@0,verify@1,order+execute@2", WorkProfile::Mixed, 4), 13);
    assert_eq!(left(&flat(16), "pipelined", WorkProfile::Mixed, 4), 0);
    // Hardware threads are no cores: six replicas with two threads on one physical core each leave two of eight.
    assert_eq!(left(&Sysfs::machine(1, 8, 2).cores(0..16), "auto", WorkProfile::Mixed, 6), 2);
}

#[test]
fn every_number_of_cores_gives_a_whole_pipeline() {
    for cores in 0..40 {
        for replicas in [1, 2, 4, 7] {
            plan(&Placement::Auto, cores, replicas, replicas - 1);
            plan(&Placement::Pipelined, cores, replicas, 0);
            verifying_on(&Cores::flat(&(0..cores).collect::<Vec<_>>()), replicas, replicas - 1);
        }
    }
}

#[test]
fn hardware_threads_go_to_cold_stages_beside_those_that_they_exchange_data_with() {
    // Eight physical cores for four replicas and the load generator: one each.
    let cores = Sysfs::machine(1, 8, 2).cores(0..16);
    let plan = auto_on(&cores, 4, 2);
    assert_eq!(seats(&plan), [("network+egress", Some(10)), ("verify-0+order+execute", Some(2))]);
    assert_eq!(plan.wait, Wait::Park, "to spin would take the other thread's half of the core");
    let expected = "partly fused: 16 cores (8 physical) for 4 replicas on this machine; 2 threads a replica, parked while \
                    idle; pinned: network+egress to 10, verify-0+order+execute to 2; network+egress and \
                    verify-0+order+execute share a physical core";
    assert_eq!(plan.explanation, expected);
    // Three each, for five threads.
    let plan = auto_on(&cores, 2, 0);
    let expected = [("network", 2), ("order", 0), ("execute", 8), ("egress", 10), ("verify-0", 1)];
    assert_eq!(seats(&plan), expected.map(|(name, core)| (name, Some(core))));
    // Enough for all: no hardware thread of a taken core is used, and threads spin.
    let plan = auto_on(&cores, 1, 0);
    assert_eq!((plan.wait, plan.verify_stages()), (Wait::Spin, 4));
    assert!(plan.threads.iter().all(|thread| thread.core.unwrap() < 8), "{plan:?}");
    // Two physical cores: verify and order have one each.
    let two = Sysfs::machine(1, 2, 2).cores(0..4);
    let expected = [("network", 2), ("verify-0", 0), ("order+execute", 1), ("egress", 3)];
    assert_eq!(seats(&auto_on(&two, 1, 0)), expected.map(|(name, core)| (name, Some(core))));
}

#[test]
fn a_replica_stays_on_one_node_and_says_which() {
    let cores = Sysfs::machine(2, 16, 2).cores(0..64);
    for index in 0..4 {
        let plan = auto_on(&cores, 4, index);
        assert_eq!((plan.threads.len(), plan.wait), (7, Wait::Spin));
        let node = index % 2;
        assert!(plan.threads.iter().all(|thread| cores.get(thread.core.unwrap()).unwrap().node == node), "{plan:?}");
        let told = "pipelined: 64 cores (32 physical) on 2 nodes for 4 replicas on this machine; 7 threads a replica, \
                    spinning while idle; pinned: network to ";
        assert!(plan.explanation.starts_with(told), "{}", plan.explanation);
        assert!(plan.explanation.ends_with(&format!(" (node {node})")), "{}", plan.explanation);
        assert!(!plan.explanation.contains("share"), "{}", plan.explanation);
    }
}

#[test]
fn nonsense_in_the_system_is_told_and_costs_nothing_else() {
    let cores = Cores::read(&[0, 1, 2, 3, 4, 5], |_| Some("?".to_owned()));
    let plan = auto_on(&cores, 1, 0);
    assert_eq!(plan.threads, auto_on(&Cores::flat(&[0, 1, 2, 3, 4, 5]), 1, 0).threads);
    let told = "; which cores share what is not known, so all count alike: cpu/online is '?'";
    assert!(plan.explanation.ends_with(told), "{}", plan.explanation);
}

#[test]
fn persist_always_has_a_thread_of_its_own() {
    let groups = "network+verify,order+execute+egress".parse().unwrap();
    let choices = [Placement::Auto, Placement::Fused, Placement::Pipelined, Placement::Cores(vec![0; 5]), groups];
    for (choice, cores) in choices.iter().flat_map(|choice| [1, 4, 32].map(|cores| (choice, cores))) {
        let without = plan(choice, cores, 4, 0);
        let with = without.clone().with_persist();
        assert_eq!(with.threads.split_last().unwrap().1, without.threads);
        assert_eq!(with.threads.last().unwrap().roles, [Role::Persist]);
        assert_eq!(with.wait, without.wait, "it does not keep the others from spinning");
    }
}

#[test]
fn equal_cores_fuse_in_data_path_order() {
    let plan = plan(&Placement::Cores(vec![0, 1, 1, 0, 2, 1]), 4, 1, 0);
    assert_eq!(plan.threads.len(), 3);
    assert_eq!(plan.threads[0].roles, [Role::Network, Role::Egress]);
    assert_eq!(plan.threads[1].roles, [Role::Verify(1), Role::Order, Role::Execute]);
    assert_eq!(plan.wait, Wait::Spin);
}

#[test]
fn groups_become_threads_as_they_are_given() {
    let choice: Placement = "egress+network@2,verify@3,verify@1,execute+order@0".parse().unwrap();
    let plan = plan(&choice, 4, 1, 0);
    let expected = [("network+egress", 2), ("verify-0", 3), ("verify-1", 1), ("order+execute", 0)];
    assert_eq!(seats(&plan), expected.map(|(name, core)| (name, Some(core))));
    let expected = "groups: asked for; 4 threads a replica, spinning while idle; pinned: network+egress to 2, verify-0 \
                    to 3, verify-1 to 1, order+execute to 0";
    assert_eq!(plan.explanation, expected);
}

#[test]
fn what_was_asked_for_spins_only_on_cores_that_are_nobody_elses() {
    let wait = |choice: &str, replicas| plan(&choice.parse().unwrap(), 4, replicas, 0).wait;
    let pinned = "network+egress@0,verify@1,order+execute@2";
    assert_eq!(wait(pinned, 1), Wait::Spin);
    assert_eq!(wait(pinned, 2), Wait::Park, "the other replica may have been given the same cores");
    assert_eq!(wait("0,1,2,0,3", 2), Wait::Park);
    assert_eq!(wait("network+egress@0,verify@1,order+execute", 1), Wait::Park);
    assert_eq!(wait("network+egress@0,verify@1,order+execute@1", 1), Wait::Park);
    assert_eq!(wait("network+egress+verify+order+execute@1", 1), Wait::Park);
    // Pinned to hardware threads of one physical core.
    let cores = Sysfs::machine(1, 2, 2).cores(0..4);
    let plan = plan_on(&cores, &"network+egress@0,verify@1,order+execute@3".parse().unwrap(), 1, 0);
    assert_eq!(plan.wait, Wait::Park);
    assert!(plan.explanation.ends_with("; verify-0 and order+execute share a physical core"), "{}", plan.explanation);
}

#[test]
fn cores_that_can_not_be_had_are_told() {
    let choice = "network+egress@0,verify@9,order+execute@2".parse().unwrap();
    let plan = plan(&choice, 4, 1, 0);
    assert_eq!((plan.threads[1].core, plan.wait), (None, Wait::Park));
    let told = "pinned: network+egress to 0, order+execute to 2; unpinned: verify-0; verify-0 is not pinned, since core 9 \
                is not one that this process may use";
    assert!(plan.explanation.ends_with(told), "{}", plan.explanation);
    let shared = plan_on(&Cores::flat(&[0, 1]), &"network@0,verify+order@1,execute+egress@1".parse().unwrap(), 1, 0);
    assert!(shared.explanation.ends_with("; verify-0+order and execute+egress share core 1"), "{}", shared.explanation);
}

/// Groups of all stages, with so many verify stages, in any order.
fn groups() -> impl Strategy<Value = Vec<Group>> {
    let stages = (1..6_usize).prop_flat_map(|verify| {
        let mut stages = PlacedStage::ALL.to_vec();
        stages.extend(vec![PlacedStage::Verify; verify - 1]);
        Just(stages).prop_shuffle()
    });
    let cuts = prop::collection::vec((any::<bool>(), prop::option::of(0..8_usize)), 10);
    (stages, cuts).prop_map(|(stages, cuts)| {
        let mut groups: Vec<Group> = Vec::new();
        for (stage, (cut, core)) in stages.into_iter().zip(cuts) {
            match groups.last_mut().filter(|_| !cut) {
                Some(group) => group.stages.push(stage),
                None => groups.push(Group { stages: vec![stage], core }),
            }
        }
        groups
    })
}

proptest! {
    #[test]
    fn groups_of_any_kind_run_every_stage_once(groups in groups(), cores in 0usize..10, replicas in 1usize..5) {
        let choice = Placement::Groups(groups.clone());
        prop_assert_eq!(&choice.to_string().parse::<Placement>().unwrap(), &choice);
        let plan = plan(&choice, cores, replicas, 0);
        prop_assert_eq!(plan.threads.len(), groups.len());
        let is_verify = |stage: &&PlacedStage| **stage == PlacedStage::Verify;
        let verify = groups.iter().flat_map(|group| &group.stages).filter(is_verify).count();
        prop_assert_eq!(plan.verify_stages(), verify);
    }

    /// One word of a placement is replaced by another one: it is refused, or all stages run.
    #[test]
    fn what_is_read_as_a_placement_can_run(
        groups in groups(),
        at in any::<prop::sample::Index>(),
        with in "network|verify|order|execute|egress|verify@3|persist|7||@|verify,verify",
    ) {
        let text = Placement::Groups(groups).to_string();
        let mut words: Vec<&str> = text.split_inclusive([',', '+']).collect();
        let at = at.index(words.len());
        let end = words[at].chars().last().filter(|end| [',', '+'].contains(end));
        let word = format!("{with}{}", end.map(String::from).unwrap_or_default());
        words[at] = &word;
        let text = words.concat();
        match text.parse::<Placement>() {
            Ok(choice) => drop(plan(&choice, 8, 1, 0)),
            Err(error) => prop_assert_eq!(error.value, text),
        }
    }

    #[test]
    fn hot_stages_never_share_a_physical_core(
        (nodes, physical, threads) in (1usize..4, 1usize..12, 1usize..4),
        replicas in 1usize..6,
    ) {
        let cores = Sysfs::machine(nodes, physical, threads).cores(0..nodes * physical * threads);
        let choices = [
            (Placement::Auto, WorkProfile::Mixed),
            (Placement::Auto, WorkProfile::VerifyBound),
            (Placement::Pipelined, WorkProfile::Mixed),
        ];
        for (choice, work) in choices {
            let mut used: Vec<(usize, usize)> = Vec::new();
            for index in 0..replicas {
                let plan = plan_for(work, &cores, &choice, replicas, index);
                let pinned = || plan.threads.iter().filter_map(|t| Some((t, cores.get(t.core?)?.physical)));
                let count = pinned().count();
                prop_assert!(count == 0 || count == plan.threads.len());
                let mut hot: Vec<usize> = pinned().filter(|(t, _)| t.is_hot()).map(|(_, core)| core).collect();
                let hot_threads = hot.len();
                hot.sort_unstable();
                hot.dedup();
                prop_assert_eq!(hot.len(), hot_threads);
                // Nobody sits beside another while a physical core of the share is free.
                let mut taken: Vec<usize> = pinned().map(|(_, core)| core).collect();
                taken.sort_unstable();
                taken.dedup();
                let share = cores.share(replicas, index, CORES_USED_MAX).len();
                prop_assert!(taken.len() == count || taken.len() == share, "{}", plan.explanation);
                prop_assert_eq!(plan.wait == Wait::Spin, count > 1 && taken.len() == count);
                if share > 0 {
                    used.extend(taken.into_iter().map(|core| (core, index)));
                } else {
                    prop_assert!(count <= 1, "without cores of its own one thread is pinned at most");
                }
            }
            let mut all: Vec<usize> = used.iter().map(|(core, _)| *core).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), used.len(), "replicas do not share physical cores");
        }
    }
}
