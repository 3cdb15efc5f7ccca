"""A bank account with deposits, withdrawals and a history."""

from dataclasses import dataclass, field


@dataclass
class Account:
    """An account of one owner; amounts are whole cents."""

    owner: str
    balance: int = 0
    history: list[str] = field(default_factory=list)

    def deposit(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError("the amount must be positive")
        self.balance += amount
        self.history.append(f"deposit {amount}")

    def withdraw(self, amount: int) -> None:
        if amount <= 0:
            raise ValueError("the amount must be positive")
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount
        self.history.append(f"withdraw {amount}")

    def add_interest(self, percent: int) -> None:
        self.deposit(self.balance * percent // 100)


def transfer(source: Account, target: Account, amount: int) -> None:
    source.withdraw(amount)
    target.deposit(amount)


if __name__ == "__main__":
    anna = Account("Anna", 10_000)
    ben = Account("Ben")
    transfer(anna, ben, 2_500)
    print(anna.balance, ben.balance)
