"""What the containers of pods do when: restarts, pauses, init containers, stopping, also over a reboot."""

from edged_world import APP, POD, World, container, pod

from motelet.edged import RUNNING, TERMINATED, WAITING


def test_a_pod_is_started_and_said_to_run():
    world = World()
    world.put(POD, pod())
    assert world.runner.log == [("start", "main")]
    assert world.container().state == RUNNING and world.edged.pods[POD].dirty
    row = world.status()["containers"][0]
    assert row[:3] == [RUNNING, True, 0]


def pause_s(world):
    """Let the application fail; -> for how long it is not started again."""
    world.exit(1)
    begun = world.clock.now_ms
    while world.container().state != RUNNING:
        world.run(1000)
    return (world.clock.now_ms - begun) // 1000


def test_back_off_doubles_to_five_minutes_and_is_forgotten_after_ten():
    world = World()
    world.put(POD, pod())
    assert [pause_s(world) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert world.container().restarts == 8
    world.run(600000)
    world.exit(1)
    assert world.container().state == RUNNING, "after ten good minutes it starts at once again"


def test_what_is_said_during_a_pause():
    world = World()
    world.put(POD, pod())
    world.exit(1)
    world.exit(3)
    assert world.container().state == WAITING
    row = world.status()["containers"][0]
    assert row[0] == WAITING and row[2] == 2 and row[6] == "CrashLoopBackOff"
    assert row[8][0] == 3 and row[8][3] == "Error"


def test_restart_policies():
    for policy, code, again in (
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ):
        world = World()
        world.put(POD, pod(restartPolicy=policy))
        world.exit(code)
        assert (world.container().state == RUNNING) == again, (policy, code)


def test_init_containers_run_in_order_and_the_others_after_them():
    world = World()
    world.put(POD, pod(container("a"), container("b"), initContainers=[container("i1"), container("i2")]))
    assert world.runner.log == [("start", "i1")]
    world.exit(1, "i1")
    assert world.runner.log == [("start", "i1")] * 2, "a failed one is tried again"
    world.exit(0, "i1")
    assert world.runner.log[-1] == ("start", "i2")
    world.exit(0, "i2")
    assert world.runner.log[-2:] == [("start", "a"), ("start", "b")]
    world.exit(0, "a")
    assert world.runner.log[-1] == ("start", "a"), "and they are not run again with it"


def test_a_failed_init_container_of_policy_never_is_the_end():
    world = World()
    world.put(POD, pod(initContainers=[container("i")], restartPolicy="Never"))
    world.exit(2, "i")
    world.run(1000000)
    assert world.runner.log == [("start", "i")]


def test_deletion_cancels_then_kills_then_says_so():
    world = World()
    world.put(POD, pod())
    world.put(POD, pod(deletionGracePeriodSeconds=5))
    assert world.runner.log[-1] == ("stop", "main") and not world.edged.pods[POD].gone
    world.run(4900)
    assert world.runner.log[-1] == ("stop", "main")
    world.run(200)
    assert world.runner.log[-1] == ("kill", "main")
    assert world.status()["gone"] and world.edged.pods[POD].dirty
    assert ".pod/default/p" not in world.store
    world.delete(POD)
    assert POD not in world.edged.pods


def test_a_pod_that_was_never_here_is_gone_at_once():
    world = World()
    world.put(POD, {"uid": "u9", "deletionGracePeriodSeconds": 30, "containers": []})
    assert (
        world.status() == {"uid": "u9", "gone": True, "start": 0, "containers": []} or world.status()["gone"]
    )
    assert world.runner.log == []


def test_what_ends_by_itself_while_being_stopped_is_not_started_again():
    world = World()
    world.put(POD, pod())
    world.put(POD, pod(deletionGracePeriodSeconds=30))
    world.exit(143)
    assert world.runner.log == [("start", "main"), ("stop", "main")] and world.edged.pods[POD].gone


def test_another_pod_of_the_same_name_waits_for_the_first_to_end():
    world = World()
    world.put(POD, pod())
    world.put(POD, pod(uid="u2"))
    assert world.runner.log[-1] == ("stop", "main") and world.edged.pods[POD].uid == "u1"
    world.exit(143)
    assert world.runner.log[-1] == ("start", "main") and world.edged.pods[POD].uid == "u2"
    assert world.container().restarts == 0


def test_a_pod_that_comes_back_while_it_is_being_stopped_is_started_again():
    world = World()
    world.put(POD, pod())
    world.delete(POD)
    world.put(POD, pod())
    assert world.runner.log[-1] == ("stop", "main")
    world.exit(143)
    assert world.runner.log[-1] == ("start", "main") and world.container().restarts == 0


def test_a_pod_taken_away_and_given_back_at_once_goes_on_and_is_told_again():
    world = World()
    world.linked = True
    world.restart()
    world.put(POD, pod())
    del world.edged.hub.said[:]
    world.store.delete(POD)
    world.edged.changed(POD)
    world.put(POD, pod())
    assert world.runner.log == [("start", "main")]
    # The cloud may have forgotten all that it was told.
    assert world.edged.hub.said == [world.status()]


def test_another_program_is_started_in_the_place_of_the_one_that_runs():
    world = World()
    world.put(POD, pod())
    world.put(POD, pod(container(env={"A": "1"})))
    assert world.runner.log == [("start", "main")], "another environment waits for the next start"
    world.put(POD, pod(container(command=["other"], digest=2)))
    assert world.runner.log[-1] == ("stop", "main")
    world.exit(143)
    assert world.runner.log[-1] == ("start", "main") and world.container().restarts == 1


def test_memory_that_is_not_there_is_failed_and_only_that():
    world = World(memory=2500)
    world.put(POD, pod())
    world.put("default/pod/q", pod(uid="u2"))
    world.put("default/pod/r", pod(uid="u3"))
    assert world.status("default/pod/r")["reason"] == "OutOfmemory"
    assert world.edged.pods["default/pod/r"].containers[0].state == WAITING
    assert len(world.runner.log) == 2


def test_the_ninth_pod_is_refused():
    world = World(memory=100000)
    for number in range(9):
        world.put("default/pod/p%d" % number, pod(uid="u%d" % number))
    assert world.status("default/pod/p8")["reason"] == "OutOfpods"
    assert len(world.runner.log) == 8


def test_what_cannot_be_started_waits_and_is_tried_again():
    world = World()
    world.runner.refuse = OSError("no room")
    world.put(POD, pod())
    row = world.status()["containers"][0]
    assert row[0] == WAITING and row[6] == "CreateContainerConfigError" and row[7] == "no room"
    world.runner.refuse = None
    world.run(11000)
    assert world.container().state == RUNNING and world.container().restarts == 0


def test_a_file_that_is_still_to_come_is_waited_for():
    world = World()
    volumes = {"code": {"main.mpy": [APP, "main.py"]}}
    world.put(POD, pod(container(mounts=[["/app", "code", ""]]), volumes=volumes))
    assert world.runner.log == [] and world.status()["containers"][0][6] == "ContainerCreating"
    world.put(APP, {"main.py": b"M"})
    assert world.runner.log == [("start", "main")]


def test_a_pod_starts_from_flash_and_counts_the_restart():
    world = World()
    world.put(POD, pod())
    world.exit(1)
    world.restart()
    assert world.container().state == RUNNING
    assert world.container().restarts == 2
    code, _, _, reason, _ = world.container().last
    assert (code, reason) == (137, "ContainerStatusUnknown")


def test_a_pause_goes_on_after_a_reboot():
    world = World()
    world.put(POD, pod())
    for _ in range(3):
        world.exit(1)
        while world.container().state != RUNNING and world.container().restarts < 3:
            world.run(1000)
    assert world.container().restarts == 3 and world.container().state == WAITING
    world.clock.advance(5000)
    world.linked = True
    world.restart()
    assert world.container().state == WAITING and world.container().restarts == 3
    # What it ended as before its pause is not told as news, at whichever moment there is a link.
    assert [status["containers"][0][0:3] for status in world.edged.hub.said] == [[WAITING, False, 3]]
    world.run(14000)
    assert world.container().state == WAITING, "20 s, of which 19 are over"
    world.run(2000)
    assert world.container().state == RUNNING


def test_each_pause_is_as_long_with_a_reboot_in_it():
    for number, whole in enumerate((10, 20, 40, 80, 160, 300, 300)):
        world = World()
        world.put(POD, pod())
        for _ in range(number + 1):
            pause_s(world)
        world.exit(1)
        world.clock.advance(5000)
        world.restart()
        world.run((whole - 6) * 1000)
        assert world.container().state == WAITING, whole
        world.run(2000)
        assert world.container().state == RUNNING, whole
        assert pause_s(world) == min(2 * whole, 300)


def test_what_has_ended_stays_ended_after_a_reboot():
    world = World()
    world.put(POD, pod(restartPolicy="OnFailure"))
    world.exit(0)
    world.linked = True
    world.restart()
    assert world.edged.hub.said == [world.status()]
    assert world.runner.log == [] and world.container().state == TERMINATED
    assert world.status()["containers"][0][3] == 0


def test_how_the_run_before_ended_is_told_after_a_reboot():
    world = World()
    world.put(POD, pod(restartPolicy="OnFailure"))
    world.exit(7)
    world.exit(0)
    told = world.status()
    world.restart()
    assert world.status() == told and told["containers"][0][8][0] == 7


def test_who_hung_the_board_is_not_started_at_once():
    world = World()
    world.put(POD, pod())
    world.put("default/pod/q", pod(uid="u2"))
    world.hung = POD + "/main"
    world.restart()
    assert world.container().state == WAITING and world.container().reason == "CrashLoopBackOff"
    assert world.container("main", "default/pod/q").state == RUNNING
    assert "watchdog" in world.container().last[4]


def test_a_pod_that_makes_no_sense_is_said_to_and_others_go_on():
    world = World()
    world.put("default/pod/bad", {"uid": "u0"})
    world.put(POD, pod())
    assert world.container().state == RUNNING
    assert world.edged.pods["default/pod/bad"].reason == "CreateContainerConfigError"


def test_status_is_told_until_it_is_acknowledged():
    world = World()
    world.put(POD, pod())
    one = world.edged.pods[POD]
    one.dirty, one.sent = False, True
    world.edged.link_lost()
    assert one.dirty and not one.sent
    one.dirty, one.sent = False, True
    world.edged.acked(one)
    assert not one.dirty and not one.sent


def test_a_status_that_was_refused_is_told_again_when_board_and_cloud_are_in_step():
    world = World()
    world.put(POD, pod())
    one = world.edged.pods[POD]
    one.dirty, one.sent = False, True
    world.edged.refused(one, 7, "not known yet")
    assert not one.dirty and not one.sent
    world.edged.in_step()
    assert one.dirty
    one.dirty = False
    world.edged.in_step()
    assert not one.dirty


def test_a_full_flash_costs_the_memory_of_a_restart_not_the_pod():
    world = World()
    world.put(POD, pod())
    world.store.full = True
    world.exit(1)
    assert world.container().state == RUNNING
    assert [line for line in world.lines if "state not kept" in line]
