"""Threads give way while others want the cores, and come back."""

from models_backend.text.native.balance import OFTEN, PAUSE, WINDOW, Balance


class Machine:
    """A clock, and a count of cores that were taken from us: `busy` of them each pass."""

    def __init__(self) -> None:
        self.taken, self.time, self.busy = 0.0, 0.0, 0.0

    def balance(self, most: int) -> Balance:
        return Balance(most, lambda: int(self.taken), lambda: self.time)

    def passes(self, balance: Balance, count: int) -> list[int]:
        used = []
        for _ in range(count):
            used.append(balance.threads())
            self.taken += self.busy
            self.time += 0.01
        return used


def test_alone_on_the_machine_all_threads_run() -> None:
    machine = Machine()
    assert set(machine.passes(machine.balance(4), 20 * WINDOW)) == {4}


def test_beside_a_busy_process_threads_give_way_step_by_step() -> None:
    machine = Machine()
    balance = machine.balance(4)
    machine.busy = 1.0
    used = machine.passes(balance, 3 * WINDOW)
    assert used == [4] * WINDOW + [2] * WINDOW + [1] * WINDOW


def test_they_come_back_when_the_machine_is_ours_again() -> None:
    machine = Machine()
    balance = machine.balance(2)
    machine.busy = 1.0
    assert machine.passes(balance, 2 * WINDOW)[-1] == 1
    machine.busy = 0.0
    used = machine.passes(balance, int(PAUSE / 0.01) + 2 * WINDOW)
    assert used[0] == 1 and used[-1] == 2


def test_after_a_rest_all_threads_run_at_once() -> None:
    machine = Machine()
    balance = machine.balance(2)
    machine.busy = 1.0
    assert machine.passes(balance, 2 * WINDOW)[-1] == 1
    machine.time += PAUSE + 0.1
    machine.busy = 0.0
    assert set(machine.passes(balance, 3 * WINDOW)) == {2}


def test_a_neighbour_who_stays_costs_one_window_in_each_pause() -> None:
    machine = Machine()
    balance = machine.balance(2)
    machine.busy = 1.0
    used = machine.passes(balance, 2000)
    assert used.count(2) / len(used) < 0.11


def test_a_core_lost_now_and_then_changes_nothing() -> None:
    machine = Machine()
    machine.busy = OFTEN / 2
    assert set(machine.passes(machine.balance(2), 10 * WINDOW)) == {2}


def test_one_thread_stays_one() -> None:
    machine = Machine()
    machine.busy = 9.0
    assert set(machine.passes(machine.balance(1), 5 * WINDOW)) == {1}
